import { describe, expect, test } from 'vitest';
import { ENOTCONN } from '../../../src/constants/errno.js';
import { NbdError, NbdProtocolError } from '../../../src/index.js';
import { createScope } from '../../support/cleanup.js';
import {
  NBD_CMD_DISC,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_EIO,
  NBD_ESHUTDOWN,
} from '../../support/nbd-numbers.js';
import { until } from '../../support/run/until.js';
import {
  type ReplyWriter,
  type RequestHandler,
  type ScriptedServer,
  startScriptedServer,
} from '../../support/scripted-server.js';
import { type ScriptedRequest, simpleReply } from '../../support/scripted-wire.js';
import { connect } from './support.js';

/** NBD_FLAG_HAS_FLAGS, SEND_FLUSH, SEND_FUA. */
const FLAGS = 0x000d;

/** A client of a scripted server with simple replies, whose export has 1 MiB. */
async function connectTo(handler: RequestHandler, flags = FLAGS) {
  const server = await startScriptedServer(createScope(), { size: 2n ** 20n, flags }, handler);
  return { server, client: await connect({ unix: server.socketPath }) };
}

/** The types of all requests so far. */
const typesOf = ({ requests }: ScriptedServer): number[] => requests.map(({ type }) => type);

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

type Pending = readonly [ScriptedRequest, ReplyWriter];

/** Collects requests until there are `count`, then hands them to `then`. */
function collect(count: number, then: (requests: Pending[]) => void): RequestHandler {
  const requests: Pending[] = [];
  return (request, reply) => {
    if (requests.push([request, reply]) === count) then(requests.splice(0));
  };
}

describe('connection replies', () => {
  test('arrive in any order', async () => {
    const { client } = await connectTo(
      collect(3, (requests) => {
        for (const [{ offset }, reply] of requests.reverse())
          reply.data(Buffer.alloc(512, Number(offset / 512n)));
      }),
    );
    const reads = await Promise.all([0, 512, 1024].map((offset) => client.read(offset, 512)));
    expect(reads.map((bytes) => bytes[0])).toEqual([0, 1, 2]);
  });

  test('arrive correctly one byte at a time', async () => {
    const { client } = await connectTo(({ cookie }, reply) => {
      for (const byte of simpleReply(cookie, 0, Buffer.alloc(512, 7))) reply.raw(Uint8Array.of(byte));
    });
    expect((await client.read(0, 512)).equals(Buffer.alloc(512, 7))).toBe(true);
  });

  test('with an error fail only their own request', async () => {
    const { client } = await connectTo(
      collect(2, ([[, first], [, second]]) => {
        first.error(NBD_EIO);
        second.data(Buffer.alloc(512));
      }),
    );
    const [first, second] = await Promise.allSettled([client.read(0, 512), client.read(512, 512)]);
    expect(first).toMatchObject({ reason: { errno: 5, name: 'NbdServerError' } });
    expect(second.status).toBe('fulfilled');
  });

  test('to no request end the connection', async () => {
    const { client } = await connectTo((_, reply) => reply.raw(simpleReply(0xeeee_eeee_eeee_eeeen, 0)));
    const error = await client.read(0, 512).catch((reason) => reason);
    expect(error).toBeInstanceOf(NbdProtocolError);
    expect(error.message).toContain('which is not in flight');
    expect(await client.closed).toBe(error);
  });
});

describe('connection loss', () => {
  test('rejects requests in flight and later ones, with a clear error', async () => {
    const { client } = await connectTo(collect(2, ([[, reply]]) => reply.drop()));
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
    const { client } = await connectTo((_, reply) => reply.socket.end());
    await expect(client.read(0, 512)).rejects.toThrow(
      'the connection to the server was lost: the server closed it',
    );
  });
});

describe('AbortSignal', () => {
  test('rejects at once, and the late reply touches nothing', async () => {
    const seen = deferred<ReplyWriter>();
    const { client } = await connectTo((request, reply) => {
      if (request.offset === 0n) seen.resolve(reply);
      else reply.data(Buffer.alloc(512, 2));
    });
    const stop = new AbortController();
    const into = Buffer.alloc(512, 0xff);
    const reading = client.readInto(into, 0, { signal: stop.signal });
    const late = await seen.promise;
    stop.abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
    late.data(Buffer.alloc(512, 1));
    expect((await client.read(512, 512))[0]).toBe(2);
    expect(into.equals(Buffer.alloc(512, 0xff))).toBe(true);
  });

  test('already aborted sends nothing', async () => {
    const { client, server } = await connectTo(() => undefined);
    await expect(client.read(0, 512, { signal: AbortSignal.abort('no') })).rejects.toBe('no');
    await client.close();
    expect(typesOf(server).filter((type) => type !== NBD_CMD_DISC)).toEqual([]);
  });
});

describe('connection close', () => {
  test('waits for requests in flight, then sends NBD_CMD_DISC as the last thing', async () => {
    const { client, server } = await connectTo((_, reply) => {
      setImmediate(() => reply.data(Buffer.alloc(512)));
    });
    const reading = client.read(0, 512);
    await client.close();
    await until('NBD_CMD_DISC to arrive', () => typesOf(server).includes(NBD_CMD_DISC));
    expect((await reading).length).toBe(512);
    expect(typesOf(server)).toEqual([NBD_CMD_READ, NBD_CMD_DISC]);
    await expect(client.read(0, 512)).rejects.toMatchObject({ name: 'NbdClosedError', errno: ENOTCONN });
    expect(await client.closed).toMatchObject({ code: 'ERR_NBD_CLOSED' });
  });

  test('follows NBD_ESHUTDOWN', async () => {
    const { client, server } = await connectTo((_, reply) => reply.error(NBD_ESHUTDOWN));
    await expect(client.read(0, 512)).rejects.toMatchObject({ errno: NBD_ESHUTDOWN });
    await client.closed;
    await client.close();
    expect(typesOf(server)).toEqual([NBD_CMD_READ, NBD_CMD_DISC]);
  });
});

describe('FUA', () => {
  test('becomes a FLUSH after the write where the server has no FUA', async () => {
    const { client, server } = await connectTo((_, reply) => reply.ok(), 0x0005);
    await client.write(0, Buffer.alloc(512), { fua: true });
    expect(typesOf(server)).toEqual([NBD_CMD_WRITE, NBD_CMD_FLUSH]);
  });
});
