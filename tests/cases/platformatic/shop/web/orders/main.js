const http = require('node:http')

// On a port of its own choice, which another service has as well.
http.createServer((request, response) => {
  response.end(`${process.env.GREETING} ${request.url}`)
}).listen(3000)
