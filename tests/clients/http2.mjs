// Asks a monitoring broker for its devices over HTTP/2 on TLS, with a token. In: port, file of the authority, token.
// Out: a line of JSON: the protocol that was agreed on, the status, the first device.
import { readFileSync } from 'node:fs'
import { connect } from 'node:http2'

const [port, authority, token] = process.argv.slice(2)
const session = connect(`https://localhost:${port}`, { ca: readFileSync(authority) })
const request = session.request({ ':path': '/v1/devices', authorization: `Bearer ${token}` })
let status
let body = ''
request.on('response', (headers) => { status = headers[':status'] })
request.setEncoding('utf8')
request.on('data', (part) => { body += part })
request.on('end', () => {
  console.log(JSON.stringify([session.alpnProtocol, status, JSON.parse(body).devices[0].id]))
  session.close()
})
