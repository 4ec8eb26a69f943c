export const build = () => (request, response) => response.end('one ' + request.url + '{NOTHING}' + process.env.NOTHING)
