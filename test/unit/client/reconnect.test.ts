import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { EIO, ENOTCONN } from '../../../src/constants/errno.js';
import {
  type ClientOptions,
  NbdArgumentError,
  type NbdClient,
  NbdClosedError,
  type NbdError,
} from '../../../src/index.js';
import { createScope } from '../../support/cleanup.js';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_ESHUTDOWN,
} from '../../support/nbd-numbers.js';
import { until } from '../../support/run/until.js';
import type { ScriptedExport } from '../../support/scripted-handshake.js';
import {
  answerAll,
  type ReplyWriter,
  type RequestHandler,
  type ScriptedServer,
  startScriptedServer,
} from '../../support/scripted-server.js';
import type { ScriptedRequest } from '../../support/scripted-wire.js';
import { connect, nbdkit } from './support.js';

/** NBD_FLAG_HAS_FLAGS, SEND_FLUSH, SEND_FUA, and the same with CAN_MULTI_CONN. */
const FLAGS = 0x000d;
const SEVERAL = 0x010d;
/** NBD_FLAG_SEND_CACHE, and its command. */
const CACHE = 0x0400;
const NBD_CMD_CACHE = 5;

const EXPORT: ScriptedExport = { size: 2n ** 20n, flags: FLAGS };

async function start(
  options: ClientOptions,
  served: ScriptedExport = EXPORT,
): Promise<{ server: ScriptedServer; client: NbdClient }> {
  const server = await startScriptedServer(createScope(), served);
  return { server, client: await connect({ unix: server.socketPath }, options) };
}

/** Answers no request that `isSilent` finds, and tells each; the others get success. */
function silentFor(
  isSilent: (request: ScriptedRequest) => boolean,
  seen: (request: ScriptedRequest, reply: ReplyWriter) => void = () => undefined,
): RequestHandler {
  return (request, reply) => {
    if (isSilent(request)) seen(request, reply);
    else answerAll(request, reply);
  };
}

/** The requests of a type so far. */
const requestsOf = ({ requests }: ScriptedServer, type: number): ScriptedRequest[] =>
  requests.filter((request) => request.type === type);

/** Waits until the server has a request of this type. */
const arrives = (server: ScriptedServer, type: number, count = 1): Promise<unknown> =>
  until(`request ${count} of type ${type}`, () => requestsOf(server, type).length >= count);

/** Kills the server, and starts it again when the client has noticed. */
async function restart(server: ScriptedServer, client: NbdClient): Promise<void> {
  const lost = once(client, 'lost');
  server.die();
  await lost;
  server.handler = answerAll;
  await server.listen();
}

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'resolved',
    (error: NbdError) => error.code,
  );

const block = (byte = 1): Buffer => Buffer.alloc(512, byte);

describe('reconnect: requests without effect', () => {
  test('a read in flight and reads of the outage are answered on the next connection', async () => {
    const { server, client } = await start({ reconnect: 60 });
    server.handler = silentFor(() => true);
    const reading = client.read(0, 512);
    await arrives(server, NBD_CMD_READ);
    const lost = once(client, 'lost');
    server.die();
    await lost;
    const later = client.read(512, 512);
    server.handler = (_, reply) => reply.data(block(7));
    await server.listen();
    expect((await reading).equals(block(7))).toBe(true);
    expect((await later).equals(block(7))).toBe(true);
  });

  test('a read whose data have arrived in part is answered as a whole', async () => {
    const { server, client } = await start({ reconnect: 60 }, { ...EXPORT, structuredReplies: true });
    server.handler = (request, reply) => {
      reply.dataChunk(request.offset, Buffer.alloc(40_000, 1));
      reply.socket.end();
    };
    const reading = client.read(0, 65_536);
    await once(client, 'lost');
    server.handler = (_, reply) => reply.data(Buffer.alloc(65_536, 2));
    expect((await reading).equals(Buffer.alloc(65_536, 2))).toBe(true);
  });

  test('a block status goes out again with the numbers of the new connection', async () => {
    const served = { ...EXPORT, structuredReplies: true, metaContexts: { 'base:allocation': 3 } };
    const { server, client } = await start({ reconnect: 60 }, served);
    server.handler = silentFor(() => true);
    const asking = client.blockStatus(0, 4096);
    await arrives(server, NBD_CMD_BLOCK_STATUS);
    server.served = { ...served, metaContexts: { 'base:allocation': 9 } };
    await restart(server, client);
    expect(await asking).toEqual({ 'base:allocation': [{ offset: 0n, length: 4096n, flags: 0 }] });
  });

  test('a cache request is sent again', async () => {
    const { server, client } = await start({ reconnect: 60 }, { ...EXPORT, flags: FLAGS | CACHE });
    server.handler = silentFor(() => true);
    const caching = client.cache(0, 512);
    await arrives(server, NBD_CMD_CACHE);
    await restart(server, client);
    await caching;
    expect(requestsOf(server, NBD_CMD_CACHE)).toHaveLength(2);
  });

  test('a signal ends one that waits, before and after it was sent', async () => {
    const { server, client } = await start({ reconnect: 60 });
    server.handler = silentFor(() => true);
    const stop = new AbortController();
    const options = { signal: stop.signal };
    const sent = client.read(0, 512, options);
    await arrives(server, NBD_CMD_READ);
    const lost = once(client, 'lost');
    server.die();
    await lost;
    const calls = [
      sent,
      client.read(0, 512, options),
      client.write(0, block(), options),
      client.flush(options),
    ];
    stop.abort(new Error('enough'));
    for (const call of calls) await expect(call).rejects.toThrow('enough');
    await expect(client.read(0, 512, options)).rejects.toThrow('enough');
    const reconnected = once(client, 'reconnected');
    server.requests.length = 0;
    server.handler = answerAll;
    await server.listen();
    await reconnected;
    await client.read(4096, 512);
    expect(server.requests.map(({ offset }) => offset)).toEqual([4096n]);
  });
});

describe('reconnect: changes', () => {
  test('one in flight rejects and is not sent again; overlapping ones are refused, others go', async () => {
    const { server, client } = await start({ reconnect: 60 });
    server.handler = silentFor(() => true);
    const writing = client.write(512, Buffer.alloc(1024, 1));
    await arrives(server, NBD_CMD_WRITE);
    await restart(server, client);
    const error: NbdError = await writing.then(
      () => expect.unreachable(),
      (reason) => reason,
    );
    expect(error).toMatchObject({ code: 'ERR_NBD_CHANGE_UNKNOWN', errno: ENOTCONN });
    expect(error.message).toBe(
      'NBD_CMD_WRITE of bytes 512 to 1536 may or may not have been made: the connection to the server was lost: the server closed it',
    );
    await client.read(512, 1024);
    await client.write(0, block());
    await client.write(1536, block());
    const refused = client.write(1024, Buffer.alloc(1024, 2));
    await expect(refused).rejects.toMatchObject({ code: 'ERR_NBD_RANGE_IN_DOUBT', errno: EIO });
    expect(requestsOf(server, NBD_CMD_WRITE).map(({ offset }) => offset)).toEqual([512n, 0n, 1536n]);
  });

  test('one whose caller has left is in doubt, too', async () => {
    const { server, client } = await start({ reconnect: 60 });
    server.handler = silentFor(() => true);
    const stop = new AbortController();
    const writing = client.write(0, block(), { signal: stop.signal });
    await arrives(server, NBD_CMD_WRITE);
    stop.abort();
    await expect(writing).rejects.toThrow();
    await restart(server, client);
    expect(await codeOf(client.write(0, block(2)))).toBe('ERR_NBD_RANGE_IN_DOUBT');
  });

  test('the settle time ends the doubt', async () => {
    const { server, client } = await start({ reconnect: 60, settleTime: 0.2 });
    server.handler = silentFor(() => true);
    const writing = client.write(0, block());
    await arrives(server, NBD_CMD_WRITE);
    const lostAt = performance.now();
    await restart(server, client);
    expect(await codeOf(writing)).toBe('ERR_NBD_CHANGE_UNKNOWN');
    await until('an overlapping write', async () => (await codeOf(client.write(0, block(2)))) === 'resolved');
    expect(performance.now() - lostAt).toBeGreaterThanOrEqual(200);
  });

  test('one that begins in an outage waits, and is sent once', async () => {
    const { server, client } = await start({ reconnect: 60 });
    const lost = once(client, 'lost');
    server.die();
    await lost;
    const writing = client.write(0, block());
    await server.listen();
    await writing;
    expect(requestsOf(server, NBD_CMD_WRITE)).toHaveLength(1);
  });

  test('one that waits is refused when it overlaps a lost one', async () => {
    const { server, client } = await start({ reconnect: 60 });
    server.handler = silentFor(() => true);
    const writing = codeOf(client.write(0, block()));
    await arrives(server, NBD_CMD_WRITE);
    const lost = once(client, 'lost');
    server.die();
    await lost;
    const next = codeOf(client.write(0, block(2)));
    server.handler = answerAll;
    await server.listen();
    expect([await writing, await next]).toEqual(['ERR_NBD_CHANGE_UNKNOWN', 'ERR_NBD_RANGE_IN_DOUBT']);
  });

  test.each([undefined, 60])(
    'with several connections the doubt holds when one is lost and others live (reconnect: %s)',
    async (reconnect) => {
      const { server, client } = await start({ connections: 3, reconnect }, { ...EXPORT, flags: SEVERAL });
      expect(client.connections).toBe(3);
      server.handler = silentFor(
        ({ type }) => type === NBD_CMD_WRITE,
        (_, reply) => reply.drop(),
      );
      const lost = once(client, 'lost');
      expect(await codeOf(client.write(0, block()))).toBe('ERR_NBD_CHANGE_UNKNOWN');
      server.handler = answerAll;
      expect(await lost).toMatchObject([{ errno: ENOTCONN }, 2]);
      expect(await codeOf(client.write(511, block()))).toBe('ERR_NBD_RANGE_IN_DOUBT');
      await client.write(1024, block());
      await client.read(0, 512);
      await client.flush();
      if (reconnect !== undefined) await until('three connections', () => client.connections === 3);
    },
  );
});

describe('reconnect: flush', () => {
  test('rejects once when answered changes may be forgotten', async () => {
    const { server, client } = await start({ reconnect: 60 });
    await client.write(0, block());
    await restart(server, client);
    const error = await client.flush().catch((reason) => reason);
    expect(error).toMatchObject({ code: 'ERR_NBD_UNFLUSHED_LOST', errno: EIO });
    await client.flush();
    expect(requestsOf(server, NBD_CMD_FLUSH)).toHaveLength(1);
  });

  test('resolves when no change was answered since the last one, or only with FUA', async () => {
    const { server, client } = await start({ reconnect: 60 });
    await client.write(0, block());
    await client.flush();
    await client.write(0, block(), { fua: true });
    await restart(server, client);
    await client.flush();
  });

  test('that failed leaves the changes unflushed', async () => {
    const { server, client } = await start({ reconnect: 60 });
    await client.write(0, block());
    server.handler = (_, reply) => reply.error(5);
    expect(await codeOf(client.flush())).toBe('EIO');
    await restart(server, client);
    expect(await codeOf(client.flush())).toBe('ERR_NBD_UNFLUSHED_LOST');
  });

  test('in flight is sent again where nothing is lost, and else rejects', async () => {
    const { server, client } = await start({ reconnect: 60 });
    server.handler = silentFor(({ type }) => type === NBD_CMD_FLUSH);
    const first = client.flush();
    await arrives(server, NBD_CMD_FLUSH);
    await restart(server, client);
    await first;
    await client.write(0, block());
    server.handler = silentFor(({ type }) => type === NBD_CMD_FLUSH);
    const two = [codeOf(client.flush()), codeOf(client.flush())];
    await arrives(server, NBD_CMD_FLUSH, 4);
    await restart(server, client);
    expect(await Promise.all(two)).toEqual(['ERR_NBD_UNFLUSHED_LOST', 'ERR_NBD_UNFLUSHED_LOST']);
    await client.flush();
  });

  test('goes to a connection that is older than the changes', async () => {
    const { server, client } = await start({ connections: 2, reconnect: 60 }, { ...EXPORT, flags: SEVERAL });
    await client.write(0, block());
    server.handler = silentFor(
      ({ type }) => type === NBD_CMD_READ,
      (request, reply) => (request.connection === 0 ? reply.drop() : answerAll(request, reply)),
    );
    const reads = Array.from({ length: 8 }, () => client.read(0, 512));
    await Promise.all(reads);
    await until('a new connection', () => server.clients.length === 3 && client.connections === 2);
    await Promise.all(Array.from({ length: 4 }, () => client.flush()));
    expect(requestsOf(server, NBD_CMD_FLUSH).map(({ connection }) => connection)).toEqual([1, 1, 1, 1]);
  });

  test('is the one of a write stream and of a change with fua where the server has no FUA', async () => {
    const { server, client } = await start({ reconnect: 60 }, { ...EXPORT, flags: 0x0005 });
    const stream = client.createWriteStream();
    stream.write(block());
    await arrives(server, NBD_CMD_WRITE);
    await client.read(0, 512);
    await restart(server, client);
    stream.end();
    const [error] = await once(stream, 'error');
    expect(error).toMatchObject({ code: 'ERR_NBD_UNFLUSHED_LOST' });
    await client.write(0, block());
    await restart(server, client);
    expect(await codeOf(client.write(0, block(), { fua: true }))).toBe('ERR_NBD_UNFLUSHED_LOST');
    await client.write(0, block(), { fua: true });
  });

  test('of a change with fua rejects, though another flush has reported the loss', async () => {
    const served = { ...EXPORT, flags: 0x0005, blockSizes: [512, 4096, 2 ** 25] } as const;
    const { server, client } = await start({ reconnect: 60 }, served);
    server.handler = silentFor(({ type }) => type === NBD_CMD_FLUSH || type === NBD_CMD_READ);
    const flushing = codeOf(client.flush());
    const writing = codeOf(client.write(0, Buffer.alloc(1124, 1), { fua: true }));
    await client.write(8192, block());
    await Promise.all([arrives(server, NBD_CMD_FLUSH), arrives(server, NBD_CMD_READ)]);
    await restart(server, client);
    expect([await flushing, await writing]).toEqual(['ERR_NBD_UNFLUSHED_LOST', 'ERR_NBD_UNFLUSHED_LOST']);
    await client.write(0, block(), { fua: true });
  });

  test('of a write stream rejects, though another flush has reported the loss', async () => {
    const { server, client } = await start({ reconnect: 60 });
    const stream = client.createWriteStream();
    stream.write(block());
    await arrives(server, NBD_CMD_WRITE);
    await client.read(0, 512);
    await restart(server, client);
    expect(await codeOf(client.flush())).toBe('ERR_NBD_UNFLUSHED_LOST');
    stream.end(block());
    const [error] = await once(stream, 'error');
    expect(error).toMatchObject({ code: 'ERR_NBD_UNFLUSHED_LOST' });
  });
});

describe('reconnect: the server', () => {
  test('another export is refused with an event, until the right one is back', async () => {
    const { server, client } = await start({ reconnect: 60 });
    const refused = once(client, 'refused');
    server.served = { ...EXPORT, size: 4096n };
    await restart(server, client);
    const reading = client.read(0, 512);
    const [error] = await refused;
    expect(error.message).toBe(
      'the server came back with another export: the size is 4096 bytes, not 1048576',
    );
    expect(server.requests.filter(({ type }) => type === NBD_CMD_READ)).toEqual([]);
    server.served = EXPORT;
    await reading;
    expect(client.connections).toBe(1);
  });

  test('requests that a server turns away while it shuts down are sent again, changes too', async () => {
    const served = { ...EXPORT, structuredReplies: true, metaContexts: { 'base:allocation': 3 } };
    const { server, client } = await start({ reconnect: 60 }, served);
    server.handler = (request, reply) => {
      if (request.connection === 0) reply.error(NBD_ESHUTDOWN);
      else answerAll(request, reply);
    };
    const lost = once(client, 'lost');
    await Promise.all([
      client.read(0, 512),
      client.write(512, block()),
      client.blockStatus(0, 512),
      client.flush(),
    ]);
    await lost;
    const first = requestsOf(server, NBD_CMD_WRITE);
    expect(first.map(({ connection }) => connection)).toEqual([0, 1]);
  });

  test('after the limit requests reject, and work again when the server is back', async () => {
    const { server, client } = await start({ reconnect: 0.2 });
    const lost = once(client, 'lost');
    server.die();
    await lost;
    const startedAt = performance.now();
    const waiting = await Promise.all([
      client.read(0, 512).catch((reason) => reason),
      client.write(0, block()).catch((reason) => reason),
    ]);
    expect(performance.now() - startedAt).toBeGreaterThan(100);
    for (const error of waiting) expect(error).toMatchObject({ code: 'ERR_NBD_NO_SERVER', errno: ENOTCONN });
    expect(await codeOf(client.read(0, 512))).toBe('ERR_NBD_NO_SERVER');
    const reconnected = once(client, 'reconnected');
    await server.listen();
    await reconnected;
    await client.read(0, 512);
  });

  test('with a limit of 0 requests reject at once', async () => {
    const { server, client } = await start({ reconnect: 0 });
    server.handler = silentFor(() => true);
    const reading = codeOf(client.read(0, 512));
    await arrives(server, NBD_CMD_READ);
    server.die();
    expect(await reading).toBe('ERR_NBD_NO_SERVER');
    server.handler = answerAll;
    await server.listen();
    await until('the server', async () => (await codeOf(client.read(0, 512))) === 'resolved');
  });

  test('close() in an outage ends at once, and rejects the calls that wait', async () => {
    const { server, client } = await start({ reconnect: Number.POSITIVE_INFINITY });
    const lost = once(client, 'lost');
    server.die();
    await lost;
    const waiting = [client.read(0, 512), client.write(0, block()), client.flush()];
    const codes = Promise.all(waiting.map(codeOf));
    await client.close();
    expect(await codes).toEqual(['ERR_NBD_CLOSED', 'ERR_NBD_CLOSED', 'ERR_NBD_CLOSED']);
    expect(await client.closed).toBeInstanceOf(NbdClosedError);
    await expect(client.read(0, 512)).rejects.toBeInstanceOf(NbdClosedError);
  });
});

describe('events', () => {
  test('come in order', async () => {
    const { server, client } = await start({ reconnect: 60 });
    const seen: string[] = [];
    client.on('lost', (error, left) => seen.push(`lost ${error.code} ${left}`));
    client.on('reconnecting', () => seen.push('reconnecting'));
    client.on('reconnected', (seconds) => seen.push(`reconnected ${seconds >= 0 && seconds < 60}`));
    client.on('close', (reason) => seen.push(`close ${reason.code}`));
    await restart(server, client);
    await client.read(0, 512);
    const closed = once(client, 'close');
    await client.close();
    await closed;
    expect(seen).toEqual(['lost ENOTCONN 0', 'reconnecting', 'reconnected true', 'close ERR_NBD_CLOSED']);
  });

  test('without reconnect: a loss closes the client', async () => {
    const { server, client } = await start({});
    const events = Promise.all([once(client, 'lost'), once(client, 'close')]);
    server.die();
    const [[error, left], [reason]] = await events;
    expect(left).toBe(0);
    expect(reason).toBe(error);
    expect(await client.closed).toBe(error);
    expect(await codeOf(client.read(0, 512))).toBe('ENOTCONN');
  });
});

describe('options', () => {
  test.each([
    [{ reconnect: -1 }, 'ERR_OUT_OF_RANGE'],
    [{ reconnect: Number.NaN }, 'ERR_OUT_OF_RANGE'],
    [{ reconnect: '5' as unknown as number }, 'ERR_INVALID_ARG_TYPE'],
    [{ settleTime: -1 }, 'ERR_OUT_OF_RANGE'],
    [{ reconnect: 5 }, 'ERR_INVALID_ARG_VALUE'],
  ])('%j is refused for a command', async (options, code) => {
    const error = await connect(nbdkit('memory', '1M'), options).catch((reason) => reason);
    expect(error).toBeInstanceOf(NbdArgumentError);
    expect(error.code).toBe(code);
  });
});
