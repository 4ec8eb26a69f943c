// Asks the gateway at ADDRESS for something in HTTP/1.1 and in HTTP/2, both over TLS: `tls_client.js ADDRESS CA`.
const [address, caFile] = process.argv.slice(2)
const ca = require('fs').readFileSync(caFile)
const servername = 'shop.example'

function http1 () {
  return new Promise((resolve, reject) => {
    const [host, port] = address.split(':')
    require('https').get({ host, port, ca, servername, path: '/', headers: { host: servername } }, answer => {
      let body = ''
      answer.on('data', data => { body += data })
      answer.on('end', () => resolve([answer.httpVersion, answer.statusCode, JSON.parse(body)]))
    }).on('error', reject)
  })
}

function http2 () {
  return new Promise((resolve, reject) => {
    const session = require('http2').connect(`https://${address}`, { ca, servername })
    session.on('error', reject)
    const stream = session.request({ ':path': '/', ':authority': servername })
    let status
    let body = ''
    stream.on('response', fields => { status = fields[':status'] })
    stream.on('data', data => { body += data })
    stream.on('end', () => {
      session.close()
      resolve(['2', status, JSON.parse(body)])
    })
  })
}

Promise.all([http1(), http2()]).then(answers => {
  const line = ([version, status, body]) => `${version} ${status} ${body.headers['x-forwarded-proto']}`
  console.log(answers.map(line).join(', '))
  // Connections that may be used again keep a process alive.
  process.exit()
})
