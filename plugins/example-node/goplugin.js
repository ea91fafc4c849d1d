// What hashicorp/go-plugin asks of a plugin besides its own service, in Node: the handshake
// on stdout, AutoMTLS, and three small services. A vendor copies this file as it is.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');

// go-plugin's own protocols, of which these are the parts that a plugin needs.
const protocols = `
syntax = "proto3";
package grpc.health.v1;
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse {
  enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
  ServingStatus status = 1;
}
service Health { rpc Check(HealthCheckRequest) returns (HealthCheckResponse); }
`;
const controller = `
syntax = "proto3";
package plugin;
message Empty {}
service GRPCController { rpc Shutdown(Empty) returns (Empty); }
`;

function services(source) {
  return grpc.loadPackageDefinition(loader.fromJSON(protobuf.parse(source, {keepCase: true}).root.toJSON(), {enums: String}));
}

// A certificate that signs itself, as X.509 in DER: the few fields that TLS looks at. The
// host believes this one certificate and no other, so nobody else could have signed it.
function der(tag, ...parts) {
  const body = Buffer.concat(parts.map((p) => (typeof p === 'string' ? Buffer.from(p, 'hex') : p)));
  const size = body.length < 128 ? [body.length] : body.length < 256 ? [0x81, body.length] : [0x82, body.length >> 8, body.length & 255];
  return Buffer.concat([Buffer.from([tag, ...size]), body]);
}

function certificate() {
  const {privateKey, publicKey} = crypto.generateKeyPairSync('ec', {namedCurve: 'P-256'});
  const ecdsaWithSHA256 = der(0x30, der(0x06, '2a8648ce3d040302'));
  const name = der(0x30, der(0x31, der(0x30, der(0x06, '550403'), der(0x0c, Buffer.from('localhost')))));
  const time = (t) => der(0x18, Buffer.from(new Date(t).toISOString().replace(/[-:T]/g, '').replace(/\..*/, 'Z')));
  const serial = crypto.randomBytes(16);
  serial[0] = (serial[0] & 0x7f) | 0x40;
  const extension = (oid, critical, value) => der(0x30, der(0x06, oid), ...(critical ? [der(0x01, 'ff')] : []), der(0x04, value));
  const signed = der(0x30,
    der(0xa0, der(0x02, '02')), // version 3
    der(0x02, serial), ecdsaWithSHA256, name,
    der(0x30, time(Date.now() - 60e3), time(Date.now() + 30 * 365 * 86400e3)),
    name, publicKey.export({type: 'spki', format: 'der'}),
    der(0xa3, der(0x30,
      extension('551d13', true, der(0x30, der(0x01, 'ff'))), // a CA, for it signs itself
      extension('551d0f', true, der(0x03, '02', '84')), // digital signature, certificates
      extension('551d25', false, der(0x30, der(0x06, '2b06010505070301'))), // TLS server
      extension('551d11', false, der(0x30, der(0x82, Buffer.from('localhost')))))));
  const signature = crypto.sign('sha256', signed, privateKey);
  return {
    der: der(0x30, signed, ecdsaWithSHA256, der(0x03, '00', signature)),
    key: privateKey.export({type: 'pkcs8', format: 'pem'}),
  };
}

function pem(cert) {
  return `-----BEGIN CERTIFICATE-----\n${cert.toString('base64').match(/.{1,64}/g).join('\n')}\n-----END CERTIFICATE-----\n`;
}

// serve serves a gRPC service to the host that started this process, until it is told to end.
exports.serve = function serve(definition, implementation) {
  if (process.env.PATCHBAY_PLUGIN !== '8f3c0cc6-provider') {
    process.stderr.write('This is a plugin of Patchbay, which starts it by itself. Try `patchbay plugin check` with its path.\n');
    process.exit(1);
  }
  const server = new grpc.Server();
  server.addService(definition, implementation);
  server.addService(services(protocols).grpc.health.v1.Health.service, {
    Check: (call, done) => done(null, {status: 'SERVING'}),
  });
  server.addService(services(controller).plugin.GRPCController.service, {
    Shutdown: (call, done) => {
      done(null, {});
      setImmediate(() => process.exit(0));
    },
  });
  const own = certificate();
  const credentials = grpc.ServerCredentials.createSsl(
    Buffer.from(process.env.PLUGIN_CLIENT_CERT), // the host's, the only one that may call
    [{private_key: Buffer.from(own.key), cert_chain: Buffer.from(pem(own.der))}],
    true,
  );
  const socket = path.join(process.env.PLUGIN_UNIX_SOCKET_DIR, `node-${process.pid}.sock`);
  server.bindAsync(`unix:${socket}`, credentials, (err) => {
    if (err) {
      log('error', `listen: ${err.message}`);
      process.exit(1);
    }
    fs.chmodSync(socket, 0o600);
    // core protocol | protocol | network | address | kind | certificate
    process.stdout.write(`1|1|unix|${socket}|grpc|${own.der.toString('base64').replace(/=+$/, '')}\n`);
  });
};

// log writes a line into patchbayd's log.
function log(level, message, more = {}) {
  process.stderr.write(`${JSON.stringify({'@level': level, '@message': message, '@timestamp': new Date().toISOString(), ...more})}\n`);
}
exports.log = log;
