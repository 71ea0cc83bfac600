import type { Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { ENOTCONN } from '../../../src/constants/errno.js';
import { NbdError, NbdProtocolError } from '../../../src/index.js';
import {
  NBD_CMD_DISC,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_EIO,
  NBD_ESHUTDOWN,
} from '../../support/nbd-numbers.js';
import { connect, oldstyleServer, type SeenRequest, simpleReply } from './support.js';

/** NBD_FLAG_HAS_FLAGS, SEND_FLUSH, SEND_FUA. */
const FLAGS = 0x000d;

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

/** Collects requests until there are `count`, then hands them to `then`. */
function collect(count: number, then: (requests: SeenRequest[], socket: Socket) => void) {
  const requests: SeenRequest[] = [];
  return (request: SeenRequest, socket: Socket) => {
    if (request.type === NBD_CMD_DISC) socket.end();
    else if (requests.push(request) === count) then(requests.splice(0), socket);
  };
}

describe('connection replies', () => {
  test('arrive in any order', async () => {
    const address = await oldstyleServer(
      FLAGS,
      collect(3, (requests, socket) => {
        for (const { cookie, offset } of requests.reverse()) {
          socket.write(simpleReply(cookie, 0, Buffer.alloc(512, Number(offset / 512n))));
        }
      }),
    );
    const client = await connect(address);
    const reads = await Promise.all([0, 512, 1024].map((offset) => client.read(offset, 512)));
    expect(reads.map((bytes) => bytes[0])).toEqual([0, 1, 2]);
  });

  test('arrive correctly one byte at a time', async () => {
    const address = await oldstyleServer(
      FLAGS,
      collect(1, ([{ cookie }], socket) => {
        for (const byte of simpleReply(cookie, 0, Buffer.alloc(512, 7))) socket.write(Uint8Array.of(byte));
      }),
    );
    expect((await (await connect(address)).read(0, 512)).equals(Buffer.alloc(512, 7))).toBe(true);
  });

  test('with an error fail only their own request', async () => {
    const address = await oldstyleServer(
      FLAGS,
      collect(2, ([first, second], socket) => {
        socket.write(simpleReply(first.cookie, NBD_EIO));
        socket.write(simpleReply(second.cookie, 0, Buffer.alloc(512)));
      }),
    );
    const client = await connect(address);
    const [first, second] = await Promise.allSettled([client.read(0, 512), client.read(512, 512)]);
    expect(first).toMatchObject({ reason: { errno: 5, name: 'NbdServerError' } });
    expect(second.status).toBe('fulfilled');
  });

  test('to no request end the connection', async () => {
    const address = await oldstyleServer(
      FLAGS,
      collect(1, (_, socket) => socket.write(simpleReply(Buffer.alloc(8, 0xee)))),
    );
    const client = await connect(address);
    const error = await client.read(0, 512).catch((reason) => reason);
    expect(error).toBeInstanceOf(NbdProtocolError);
    expect(error.message).toContain('which is not in flight');
    expect(await client.closed).toBe(error);
  });
});

describe('connection loss', () => {
  test('rejects requests in flight and later ones, with a clear error', async () => {
    const client = await connect(
      await oldstyleServer(
        FLAGS,
        collect(2, (_, socket) => socket.destroy()),
      ),
    );
    const results = await Promise.allSettled([
      client.read(0, 512),
      client.write(0, Buffer.alloc(512)),
      client.flush(),
    ]);
    // FLUSH waits for the write, which never gets its reply.
    const late = client.read(0, 512);
    for (const result of results) expect(result.status).toBe('rejected');
    await expect(late).rejects.toMatchObject({ errno: ENOTCONN });
    expect(await client.closed).toBeInstanceOf(NbdError);
    await client.close();
  }, 10_000);

  test('rejects requests in flight when the server closes in order', async () => {
    const client = await connect(
      await oldstyleServer(
        FLAGS,
        collect(1, (_, socket) => socket.end()),
      ),
    );
    await expect(client.read(0, 512)).rejects.toThrow(
      'the connection to the server was lost: the server closed it',
    );
  });
});

describe('AbortSignal', () => {
  test('rejects at once, and the late reply touches nothing', async () => {
    const seen = deferred<[SeenRequest, Socket]>();
    const address = await oldstyleServer(FLAGS, (request, socket) => {
      if (request.type === NBD_CMD_DISC) socket.end();
      else if (request.offset === 0n) seen.resolve([request, socket]);
      else socket.write(simpleReply(request.cookie, 0, Buffer.alloc(512, 2)));
    });
    const client = await connect(address);
    const stop = new AbortController();
    const into = Buffer.alloc(512, 0xff);
    const reading = client.readInto(into, 0, { signal: stop.signal });
    const [request, socket] = await seen.promise;
    stop.abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
    socket.write(simpleReply(request.cookie, 0, Buffer.alloc(512, 1)));
    expect((await client.read(512, 512))[0]).toBe(2);
    expect(into.equals(Buffer.alloc(512, 0xff))).toBe(true);
  });

  test('already aborted sends nothing', async () => {
    let requests = 0;
    const address = await oldstyleServer(FLAGS, (request, socket) => {
      if (request.type === NBD_CMD_DISC) socket.end();
      else requests++;
    });
    const client = await connect(address);
    await expect(client.read(0, 512, { signal: AbortSignal.abort('no') })).rejects.toBe('no');
    await client.close();
    expect(requests).toBe(0);
  });
});

describe('connection close', () => {
  test('waits for requests in flight, then sends NBD_CMD_DISC as the last thing', async () => {
    const types: number[] = [];
    const ended = deferred<void>();
    const address = await oldstyleServer(FLAGS, (request, socket) => {
      types.push(request.type);
      if (request.type === NBD_CMD_READ) {
        setImmediate(() => socket.write(simpleReply(request.cookie, 0, Buffer.alloc(512))));
      } else if (request.type === NBD_CMD_DISC) {
        socket.end();
        ended.resolve();
      }
    });
    const client = await connect(address);
    const reading = client.read(0, 512);
    await client.close();
    await ended.promise;
    expect((await reading).length).toBe(512);
    expect(types).toEqual([NBD_CMD_READ, NBD_CMD_DISC]);
    await expect(client.read(0, 512)).rejects.toThrow('it was closed');
  });

  test('follows NBD_ESHUTDOWN', async () => {
    const types: number[] = [];
    const address = await oldstyleServer(FLAGS, (request, socket) => {
      types.push(request.type);
      if (request.type === NBD_CMD_DISC) socket.end();
      else socket.write(simpleReply(request.cookie, NBD_ESHUTDOWN));
    });
    const client = await connect(address);
    await expect(client.read(0, 512)).rejects.toMatchObject({ errno: NBD_ESHUTDOWN });
    await client.closed;
    await client.close();
    expect(types).toEqual([NBD_CMD_READ, NBD_CMD_DISC]);
  });
});

describe('FUA', () => {
  test('becomes a FLUSH after the write where the server has no FUA', async () => {
    const types: number[] = [];
    const address = await oldstyleServer(0x0005, (request, socket) => {
      types.push(request.type);
      if (request.type === NBD_CMD_DISC) socket.end();
      else socket.write(simpleReply(request.cookie));
    });
    const client = await connect(address);
    await client.write(0, Buffer.alloc(512), { fua: true });
    expect(types).toEqual([NBD_CMD_WRITE, NBD_CMD_FLUSH]);
  });
});
