// `npm run fuzz:record`: records the seeds in tools/fuzz/corpus from sessions with real servers.
//
// A target makes each handshake and each batch of requests from the first bytes of its test case; the server's
// answers become the rest. Extended headers come from the tests' scripted server, since no
// packaged server has them. Needs nbdkit, qemu-nbd, qemu-img, nbd-server and psktool.

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { NBD_CMD_WRITE } from '../../src/nbd/constants.js';
import { Handshake, type HandshakeEvent } from '../../src/nbd/handshake/handshake.js';
import { ReplyReceiver } from '../../src/nbd/transmission/reply-receiver.js';
import { encodeRequest } from '../../src/nbd/transmission/request.js';
import { negotiate } from '../../src/transport/negotiate.js';
import { prepareTls, type TlsUpgrade } from '../../src/transport/tls.js';
import { RecordedRequest, Recorder } from '../../test/support/reply-recorder.js';
import * as rfc8448 from '../../test/support/rfc8448.js';
import { createPsk } from '../../test/support/run/images.js';
import { Scope } from '../../test/support/run/scope.js';
import { startNbdkit, startNbdServer, startQemuNbd } from '../../test/support/run/servers.js';
import { answerAll, startScriptedServer } from '../../test/support/scripted-server.js';
import { Input } from './input.js';
import { tlsSeeds, uriSeeds, workerSeeds } from './seeds.js';
import { optionsOf } from './targets/handshake.js';
import { requestsOf } from './targets/replies.js';

const CORPUS = 'tools/fuzz/corpus';
/** Milliseconds that one session may take. */
const PATIENCE = 20_000;

/** Choices of the handshake target: go, list and info, with and without each kind of replies, contexts. */
const HANDSHAKES = [0, 1, 2, 3, 8, 16, 24, 32, 34, 35];
const TLS = 4;

/** Heads of test cases of the replies target, without the choice: how many requests, and five bytes each. */
const BATCHES = [
  [2, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 2, 4, 0, 0, 0],
  [3, 2, 3, 0, 0, 0, 4, 3, 0, 4, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 1],
  [0, 0, 3, 3, 0, 0],
].map((bytes) => Uint8Array.from(bytes));

function save(target: string, name: string, ...parts: readonly Uint8Array[]): void {
  mkdirSync(`${CORPUS}/${target}`, { recursive: true });
  writeFileSync(`${CORPUS}/${target}/${name}`, Buffer.concat(parts));
}

/** A handshake that keeps the bytes that it receives. */
class Recording extends Handshake {
  readonly heard: Uint8Array[] = [];
  /** Bytes received before TLS. */
  clear = 0;

  override receive(bytes: Uint8Array): HandshakeEvent[] {
    this.heard.push(Uint8Array.from(bytes));
    return super.receive(bytes);
  }

  override tlsStarted(): HandshakeEvent[] {
    this.clear = Buffer.concat(this.heard).length;
    return super.tlsStarted();
  }
}

async function shakeHands(
  path: string,
  choice: number,
  tls?: TlsUpgrade,
): Promise<{ heard: Buffer; clear: number; stream?: Duplex; event?: HandshakeEvent }> {
  const handshake = new Recording(optionsOf(choice));
  const socket = connect(path);
  await once(socket, 'connect');
  try {
    const { stream, event } = await negotiate(socket, handshake, tls, AbortSignal.timeout(PATIENCE));
    return { heard: Buffer.concat(handshake.heard), clear: handshake.clear, stream, event };
  } catch (error) {
    // A refusal is also a useful seed.
    console.log(`  ${choice}: ${error instanceof Error ? error.message : error}`);
    return { heard: Buffer.concat(handshake.heard), clear: handshake.clear };
  }
}

async function recordHandshakes(name: string, path: string, tls?: TlsUpgrade): Promise<void> {
  for (const plain of HANDSHAKES) {
    const choice = tls === undefined ? plain : plain | TLS;
    const { heard, clear, stream } = await shakeHands(path, choice, tls);
    stream?.destroy();
    // Without TLS, all bytes came in plain text.
    const inClear = clear === 0 ? heard.length : clear;
    const length = tls === undefined ? [] : [inClear >> 8, inClear & 0xff];
    save('handshake', `${name}-${choice}`, Uint8Array.from([choice, 6, ...length]), heard);
  }
}

/** The replies of the server to one batch of requests, read until the last reply is whole. */
async function recordReplies(name: string, path: string, choice: number, format: number): Promise<void> {
  for (const [i, head] of BATCHES.entries()) {
    const { stream, event } = await shakeHands(path, choice);
    if (stream === undefined || event?.type !== 'ready') throw new Error(`no session with ${name}`);
    const { info } = event;
    const recorder = new Recorder();
    const receiver = new ReplyReceiver<RecordedRequest>(info, recorder);
    const heard: Buffer[] = [];
    for (const [cookie, { type, flags = 0, offset, length }] of requestsOf(new Input(head))) {
      recorder.ask(cookie, new RecordedRequest(type, offset, length, flags));
      const message = Buffer.alloc((info.extendedHeaders ? 32 : 28) + (type === NBD_CMD_WRITE ? length : 0));
      const view = new DataView(message.buffer, message.byteOffset);
      const [offsetHi, offsetLo] = [Number(offset >> 32n), Number(offset & 0xffffffffn)];
      encodeRequest(view, 0, info.extendedHeaders, {
        flags,
        type,
        cookieHi: 0,
        cookieLo: Number(cookie),
        offsetHi,
        offsetLo,
        length,
      });
      stream.write(message);
    }
    for await (const chunk of stream) {
      heard.push(chunk);
      const bytes = Buffer.concat([Buffer.alloc(32), chunk]);
      receiver.receive(bytes, 32, bytes.length);
      if (recorder.inFlight.size === 0) break;
    }
    // Bit 2: the bytes are raw; the other bits: the size of the parts in which they arrive.
    save('replies', `${name}-${i}`, Uint8Array.from([format | 4 | (9 << 3)]), head, Buffer.concat(heard));
  }
}

async function recordServers(scope: Scope): Promise<void> {
  const disk = scope.path('disk.raw');
  writeFileSync(disk, Buffer.concat([Buffer.alloc(65_536, 'disk'), Buffer.alloc(2 ** 20 - 65_536)]));
  const qcow2 = scope.path('disk.qcow2');
  execFileSync('qemu-img', ['convert', '-O', 'qcow2', disk, qcow2]);

  const exports = ['exportname=disk', 'exportname-list=explicit', 'exportname=other'];
  const nbdkit = await startNbdkit(scope.inner(), '--filter=exportname', 'file', disk, ...exports);
  await recordHandshakes('nbdkit', nbdkit.socket);
  await recordReplies('nbdkit-structured', nbdkit.socket, 0, 1);
  await recordReplies('nbdkit-simple', nbdkit.socket, 24, 0);

  const oldstyle = await startNbdkit(scope.inner(), '--oldstyle', 'memory', '1M');
  await recordHandshakes('oldstyle', oldstyle.socket);

  const words = ['-f', 'qcow2', '-x', 'disk', '-D', 'a description', '--allocation-depth', qcow2];
  const qemu = await startQemuNbd(scope, ...words);
  await recordHandshakes('qemu-nbd', qemu.socket);
  await recordReplies('qemu-nbd-structured', qemu.socket, 32, 1);

  await recordHandshakes('nbd-server', (await startNbdServer(scope, disk)).socket);

  const keys = createPsk(scope.path('keys'));
  const secure = await startNbdkit(scope.inner(), '--tls=require', `--tls-psk=${keys}`, 'memory', '1M');
  const tls = await prepareTls(
    { kind: 'unix', path: secure.socket },
    { type: 'psk', pskFile: keys, username: 'alice' },
    false,
  );
  await recordHandshakes('nbdkit-tls', secure.socket, tls);
  await recordHandshakes('nbdkit-tls-required', secure.socket);
  await recordHandshakes('nbdkit-no-tls', nbdkit.socket, tls);
  await recordHandshakes('oldstyle-no-tls', oldstyle.socket, tls);

  const served = {
    size: 2n ** 20n,
    extendedHeaders: true,
    metaContexts: { 'base:allocation': 7 },
    names: ['disk', 'other'],
  };
  const { socketPath } = await startScriptedServer(scope, served, answerAll);
  await recordHandshakes('extended', socketPath);
  await recordReplies('extended', socketPath, 0, 2);
}

async function main(): Promise<void> {
  const scope = new Scope();
  try {
    rmSync(CORPUS, { recursive: true, force: true });
    await recordServers(scope);
    for (const [target, seeds] of Object.entries({ uri: uriSeeds(), worker: workerSeeds(), tls: tlsSeeds() }))
      for (const [i, seed] of seeds.entries()) save(target, `seed-${i}`, seed);
    const trace = [rfc8448.SERVER_TICKET, rfc8448.SERVER_DATA, rfc8448.SERVER_CLOSE];
    save('tls', 'rfc8448', Uint8Array.of(4 | (2 << 3)), ...trace);
  } finally {
    await scope.close();
  }
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
