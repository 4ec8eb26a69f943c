import http from 'node:http'

// What `build` of a service returns may be a function of requests, as Express has it.
export async function build () {
  return async (request, response) => {
    const answer = await fetch(`http://koa.plt.local${request.url}`)
    response.end(`main ${process.env.WATT_WORKER}: ${await answer.text()}`)
  }
}
