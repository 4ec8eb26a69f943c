require('node:http').createServer((request, response) => {
  response.end(`${globalThis.platformatic.applicationId} ${request.url} ${process.env.COLOR} ${process.env.FROM_OUTSIDE}`)
}).listen(8080, '127.0.0.1')
