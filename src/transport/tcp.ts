// Connects over TCP: tries every address of a name in the resolver's order.
//
// Called by dial.ts. Nothing blocks; each of several addresses has a time limit, so that a dead address does not hide a
// live one.

import { lookup } from 'node:dns/promises';
import { readFile } from 'node:fs/promises';
import type { NetConnectOpts, Socket } from 'node:net';
import { EINVAL } from '../constants/errno.js';
import { printable } from '../nbd/text.js';
import { codeOf, errnoOf, reasonOf, TransportError } from './errors.js';
import { ReceivingSocket } from './receiving-socket.js';
import { describeTarget } from './target.js';

/** Milliseconds that one of several addresses may take. */
const ATTEMPT_TIME = 10_000;

/** Milliseconds of silence after which the kernel begins to probe whether the server is still there. */
const KEEPALIVE_DELAY = 30_000;

/** Connects one socket; rejects with Node's error, or with the signal's reason. */
export async function connectSocket(options: NetConnectOpts, signal?: AbortSignal): Promise<Socket> {
  const socket = new ReceivingSocket();
  return new Promise((resolve, reject) => {
    const abort = () => fail(signal?.reason);
    const fail = (error: unknown) => {
      signal?.removeEventListener('abort', abort);
      socket.destroy();
      reject(error);
    };
    if (signal?.aborted) {
      fail(signal.reason);
      return;
    }
    signal?.addEventListener('abort', abort);
    // An error can come before the caller listens for it.
    socket.on('error', () => undefined);
    socket.once('error', fail);
    socket.connect(options, () => {
      signal?.removeEventListener('abort', abort);
      socket.removeListener('error', fail);
      resolve(socket);
    });
  });
}

/** The number of a port given as digits or as a name of /etc/services. */
export async function portNumber(port: number | string): Promise<number> {
  const number =
    typeof port === 'number' ? port : /^\d{1,5}$/.test(port) ? Number(port) : await servicePort(port);
  if (!Number.isInteger(number) || number < 1 || number > 65_535) {
    throw new TransportError(
      `bad port ${printable(String(port))}: it must be 1 to 65535 or a name in /etc/services`,
    );
  }
  return number;
}

async function servicePort(name: string): Promise<number> {
  const services = await readFile('/etc/services', 'utf8').catch(() => '');
  for (const line of services.split('\n')) {
    const [first, port, ...aliases] = line.replace(/#.*/, '').trim().split(/\s+/);
    if ((first === name || aliases.includes(name)) && port?.endsWith('/tcp'))
      return Number.parseInt(port, 10);
  }
  return 0;
}

async function addressesOf(host: string): Promise<string[]> {
  try {
    const found = await lookup(host, { all: true, order: 'verbatim' });
    return found.map(({ address }) => address);
  } catch (error) {
    const why = codeOf(error) === 'EAI_AGAIN' ? 'the name service does not answer' : 'no such host';
    throw new TransportError(`cannot find the host ${printable(host)}: ${why}`, { cause: error });
  }
}

/** Connects to the first address of `host` that answers, with TCP_NODELAY and keepalive on. */
export async function connectTcp(host: string, port: number | string, signal?: AbortSignal): Promise<Socket> {
  const number = await portNumber(port);
  refuseUnscoped(host, port);
  const addresses = await addressesOf(host);
  const failures = new Map<string, string[]>();
  let last: unknown;
  for (const address of addresses) {
    const limit = AbortSignal.timeout(ATTEMPT_TIME);
    const either = signal === undefined ? limit : AbortSignal.any([signal, limit]);
    try {
      const socket = await connectSocket(
        { host: address, port: number },
        addresses.length > 1 ? either : signal,
      );
      socket.setNoDelay(true);
      socket.setKeepAlive(true, KEEPALIVE_DELAY);
      return socket;
    } catch (error) {
      signal?.throwIfAborted();
      last = error;
      const why = limit.aborted ? 'no answer' : reasonOf(error);
      failures.set(why, [...(failures.get(why) ?? []), address]);
    }
  }
  const whys = [...failures].map(([why, who]) => (failures.size > 1 ? `${who.join(', ')}: ${why}` : why));
  const where = describeTarget({ kind: 'tcp', host, port });
  throw new TransportError(`cannot connect to ${where}: ${whys.join('; ')}${advice(last)}`, {
    errno: errnoOf(last),
    cause: last,
  });
}

const advice = (error: unknown): string =>
  codeOf(error) === 'ECONNREFUSED' ? '; is the server running, and on this port?' : '';

/** Refuses a link-local address without its interface: each has one, and newer versions of Node.js take any. */
function refuseUnscoped(address: string, port: number | string): void {
  if (!/^fe[89ab][0-9a-f]:[^%]*$/i.test(address)) return;
  const where = describeTarget({ kind: 'tcp', host: address, port });
  throw new TransportError(
    `cannot connect to ${where}: a link-local address needs its interface: ${address}%eth0, and in a URI [${address}%25eth0]`,
    { errno: EINVAL },
  );
}
