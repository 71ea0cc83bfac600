import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { ConnectionPool } from '../../../src/client/connection-pool.js';
import { NBD_CMD_READ, NBD_CMD_WRITE } from '../../../src/nbd/constants.js';
import { NegotiatedConnection } from '../../../src/transport/connection.js';
import { DescriptorStream } from '../../../src/transport/descriptor-stream.js';
import { openServer } from '../../../src/transport/server.js';
import type { Target, TlsSettings } from '../../../src/transport/target.js';
import { createScope, scratchFolder } from '../../support/cleanup.js';
import { startRawServer } from '../../support/raw-server.js';
import { makeAuthority, makeCertificate, makePki, makeRevocation } from '../../support/run/certificates.js';
import { createPsk } from '../../support/run/images.js';
import { freePort } from '../../support/run/ports.js';
import { nbdkitTls, startNbdkit, startQemuNbd, startTcpNbdkit } from '../../support/run/servers.js';

const SIZE = 8 * 1024 * 1024;

/** Certificates and keys are made once; every test starts its own servers. */
let pki: string;
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tls-test-'));
  pki = makePki(join(folder, 'pki'));
  mkdirSync(join(folder, 'ca-only'));
  copyFileSync(join(pki, 'ca-cert.pem'), join(folder, 'ca-only', 'ca-cert.pem'));
  makeAuthority(join(folder, 'other'));
  for (const [user, file] of [
    ['alice', 'keys.psk'],
    ['alice', 'wrong.psk'],
    ['bob', 'bob.psk'],
  ]) {
    createPsk(join(folder, file), user);
  }
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** A folder with a special server certificate, signed by the authority that clients trust. */
function serverFolder(name: string, lines: readonly string[], host = 'localhost'): string {
  const path = join(folder, name);
  makeCertificate(path, 'server', pki, { cn: host, host, lines });
  copyFileSync(join(pki, 'ca-cert.pem'), join(path, 'ca-cert.pem'));
  return path;
}

/** Connects, moves bytes both ways through the descriptor, and returns the result. */
async function roundTrip(target: Target, tls: TlsSettings | undefined): Promise<string> {
  const server = await openServer({ target, exportName: '', tls });
  const connection = await server.connect();
  const stream: Duplex = new DescriptorStream(connection.takeDescriptor());
  const pool = new ConnectionPool(connection.info);
  pool.add(new NegotiatedConnection(connection.info, stream));
  onTestFinished(() => pool.close());
  const payload = Buffer.alloc(SIZE, 'There are bytes in here. ');
  await pool.submit({ type: NBD_CMD_WRITE, flags: 0, offset: 0n, length: SIZE, payload });
  const into = Buffer.alloc(SIZE);
  await pool.submit({ type: NBD_CMD_READ, flags: 0, offset: 0n, length: SIZE, into });
  return into.equals(payload) ? 'same bytes' : 'other bytes';
}

async function connecting(target: Target, tls: TlsSettings | undefined): Promise<void> {
  const server = await openServer({ target, exportName: '', tls });
  (await server.connect()).close();
}

async function tlsNbdkit(...args: string[]): Promise<Target> {
  const { socket } = await startNbdkit(createScope(), '--tls=require', ...args, 'memory', String(SIZE));
  return { kind: 'unix', path: socket };
}

const x509Server = (certificates = pki) =>
  tlsNbdkit('--tls-certificates', certificates, ...(certificates === pki ? ['--tls-verify-peer'] : []));
const pskServer = () => tlsNbdkit('--tls-psk', join(folder, 'keys.psk'));

async function nbdkitTcp(certificates: string): Promise<number> {
  const port = await freePort();
  await startTcpNbdkit(createScope(), port, ...nbdkitTls(certificates), 'memory', String(SIZE));
  return port;
}

async function qemuTls(credentials: string): Promise<Target> {
  const scope = createScope();
  const disk = scope.path('disk');
  writeFileSync(disk, Buffer.alloc(SIZE));
  const object = `--object=${credentials},id=tls0,endpoint=server`;
  const { socket } = await startQemuNbd(scope, '--format=raw', object, '--tls-creds=tls0', disk);
  return { kind: 'unix', path: socket };
}

describe('TLS with x509', () => {
  test('transfers bytes both ways with nbdkit, which demands a client certificate', async () => {
    expect(await roundTrip(await x509Server(), { certificates: pki })).toBe('same bytes');
  });

  test('transfers bytes both ways with qemu-nbd', async () => {
    const target = await qemuTls(`tls-creds-x509,dir=${pki},verify-peer=yes`);
    expect(await roundTrip(target, { certificates: pki })).toBe('same bytes');
  });

  test('checks the name of the host', async () => {
    const port = await nbdkitTcp(pki);
    await connecting({ kind: 'tcp', host: 'localhost', port }, { certificates: pki });
    await expect(connecting({ kind: 'tcp', host: '127.0.0.1', port }, { certificates: pki })).rejects.toThrow(
      /the server's certificate is for another name .*name it with tls-hostname=NAME/,
    );
  });

  test('checks tls-hostname instead where it is set', async () => {
    const target = await x509Server();
    await connecting(target, { certificates: pki, hostname: 'localhost' });
    await expect(connecting(target, { certificates: pki, hostname: 'example.com' })).rejects.toThrow(
      'another name',
    );
  });

  test('refuses a certificate of an unknown authority and names the known ones', async () => {
    const settings = { certificates: join(folder, 'other') };
    await expect(connecting(await x509Server(), settings)).rejects.toThrow(
      `cannot secure the connection with TLS: the server's certificate is not signed by an authority in ${folder}/other/ca-cert.pem`,
    );
  });

  test('refuses a certificate of an authority unknown to the system, without a directory of certificates', async () => {
    await expect(connecting(await x509Server(), {})).rejects.toThrow('is not signed by an authority in');
  });

  test('accepts any certificate only with tls-verify-peer=0', async () => {
    const server = serverFolder('unverified', [], 'elsewhere');
    await connecting(await x509Server(server), { certificates: join(folder, 'other'), verifyPeer: false });
  });

  test('refuses an expired certificate', async () => {
    const lines = ['activation_date = "2020-01-01 00:00:00"', 'expiration_date = "2021-01-01 00:00:00"'];
    await expect(
      connecting(await x509Server(serverFolder('expired', lines)), { certificates: pki }),
    ).rejects.toThrow("the server's certificate has expired");
  });

  test('refuses a certificate that is not valid yet', async () => {
    const lines = ['activation_date = "2090-01-01 00:00:00"', 'expiration_date = "2091-01-01 00:00:00"'];
    await expect(
      connecting(await x509Server(serverFolder('future', lines)), { certificates: pki }),
    ).rejects.toThrow("the server's certificate is not valid yet");
  });

  test('refuses a certificate that ca-crl.pem has revoked, and accepts others', async () => {
    const revoked = serverFolder('revoked', []);
    const trusting = makeRevocation(join(folder, 'revoking'), pki, revoked);
    await expect(connecting(await x509Server(revoked), { certificates: trusting })).rejects.toThrow(
      "the server's certificate has been revoked",
    );
    await connecting(await x509Server(serverFolder('unrevoked', [])), { certificates: trusting });
  });

  test('reports that the server may want a client certificate when it closes without one', async () => {
    await expect(connecting(await x509Server(), { certificates: join(folder, 'ca-only') })).rejects.toThrow(
      /client certificate/,
    );
  });

  test('reports that the directory has no ca-cert.pem', async () => {
    const certificates = scratchFolder();
    await expect(connecting({ kind: 'unix', path: '/none' }, { certificates })).rejects.toThrow(
      `cannot use the TLS certificates in ${certificates}: there is no ca-cert.pem in that directory`,
    );
  });

  test('reports which half of the client certificate is missing', async () => {
    const certificates = scratchFolder();
    copyFileSync(join(pki, 'ca-cert.pem'), join(certificates, 'ca-cert.pem'));
    copyFileSync(join(pki, 'client-cert.pem'), join(certificates, 'client-cert.pem'));
    await expect(connecting({ kind: 'unix', path: '/none' }, { certificates })).rejects.toThrow(
      'client-key.pem is missing',
    );
  });
});

describe('TLS with pre-shared keys', () => {
  const alice = (file: string) => ({ pskFile: join(folder, file), username: 'alice' });

  test('transfers bytes both ways with nbdkit', async () => {
    expect(await roundTrip(await pskServer(), alice('keys.psk'))).toBe('same bytes');
  });

  test('transfers bytes both ways with qemu-nbd', async () => {
    expect(await roundTrip(await qemuTls(`tls-creds-psk,dir=${folder}`), alice('keys.psk'))).toBe(
      'same bytes',
    );
  });

  test('refuses wrong keys, and the message names the files to check', async () => {
    await expect(connecting(await pskServer(), alice('wrong.psk'))).rejects.toThrow(
      'is the user alice in its keys file, with this key?',
    );
  });

  test('refuses a user whom the server does not know', async () => {
    const settings = { pskFile: join(folder, 'bob.psk'), username: 'bob' };
    await expect(connecting(await pskServer(), settings)).rejects.toThrow('is the user bob in its keys file');
  });

  test('reports a user who is not in the file before anything is sent', async () => {
    const settings = { pskFile: join(folder, 'bob.psk'), username: 'carol' };
    await expect(connecting({ kind: 'unix', path: '/none' }, settings)).rejects.toThrow(
      /^cannot find the user carol in the keys file .*bob.psk/,
    );
  });

  test('does not fall back to a certificate, even a good one', async () => {
    const target = await tlsNbdkit('--tls-certificates', pki);
    await expect(connecting(target, alice('keys.psk'))).rejects.toThrow(
      'the server sent a certificate instead of using the pre-shared key',
    );
  });
});

describe('anonymous TLS', () => {
  test('transfers bytes both ways with qemu-nbd', async () => {
    expect(await roundTrip(await qemuTls('tls-creds-anon'), { type: 'anon' })).toBe('same bytes');
  });
});

describe('plain text', () => {
  test('is no fallback when the server has no TLS', async () => {
    const { socket: path } = await startNbdkit(createScope(), 'memory', '1M');
    await expect(connecting({ kind: 'unix', path }, { certificates: pki })).rejects.toThrow(
      /^cannot use TLS, and plain text is not allowed/,
    );
  });

  test('is no fallback when the server uses the oldstyle handshake', async () => {
    const { socket: path } = await startNbdkit(createScope(), '--oldstyle', 'memory', '1M');
    await expect(connecting({ kind: 'unix', path }, { certificates: pki })).rejects.toThrow(
      'plain text is not allowed',
    );
  });

  test('fails with a server that requires TLS, and the message names the URI scheme', async () => {
    await expect(connecting(await x509Server(), undefined)).rejects.toThrow(
      'requires TLS; use an nbds:// URI',
    );
  });

  test('behind the reply to NBD_OPT_STARTTLS is refused', async () => {
    const greeting = Buffer.from('4e42444d41474943' + '49484156454f5054' + '0003', 'hex');
    const reply = Buffer.from('0003e889045565a9' + '00000005' + '00000001' + '00000000', 'hex');
    const { socketPath: path } = await startRawServer(createScope(), (socket) => {
      socket.write(greeting);
      let seen = 0;
      socket.on('data', (chunk) => {
        seen += chunk.length;
        // 4 bytes of client flags, 16 of the option's header.
        if (seen >= 20) socket.write(Buffer.concat([reply, Buffer.from('slipped in')]));
      });
    });
    await expect(connecting({ kind: 'unix', path }, { certificates: pki })).rejects.toThrow(
      /sent 10 bytes before/,
    );
  });
});
