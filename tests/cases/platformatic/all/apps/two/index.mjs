export const build = () => (request, response) => response.end('two ' + request.url + '{NOTHING}' + process.env.NOTHING)
