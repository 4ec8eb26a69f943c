import { createServer } from 'node:http'

export function create () {
  return createServer(async (request, response) => {
    if (request.url === '/orders') {
      const answer = await fetch('http://orders.plt.local/list')
      return response.end(`${answer.status} ${await answer.text()}`)
    }
    const { SHARED, OWN, GREETING } = process.env
    const { applicationId, workerId } = globalThis.platformatic
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify({ url: request.url, method: request.method, SHARED, OWN, GREETING, applicationId, workerId, level: globalThis.platformatic.logger.level }))
  })
}
