const http = require('node:http')

// What has `callback` and `listen`, as Koa has it.
exports.build = () => ({
  callback: () => (request, response) => response.end(`koa ${request.url} ${process.argv.slice(2)}`),
  listen (...options) {
    return http.createServer(this.callback()).listen(...options)
  }
})
