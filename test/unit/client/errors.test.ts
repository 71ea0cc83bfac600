import { expect, test } from 'vitest';
import { ECONNREFUSED, EINVAL, ENOTCONN } from '../../../src/constants/errno.js';
import {
  listExports,
  listMetaContexts,
  NbdArgumentError,
  NbdClient,
  NbdClosedError,
  NbdError,
  NbdProtocolError,
  NbdServerError,
  openServer,
  parseNbdUri,
  type ServerAddress,
  TransportError,
} from '../../../src/index.js';
import { scratchFolder } from '../../support/cleanup.js';
import { connect, nbdkit } from './support.js';

/** The error of an action that must fail. */
async function errorOf(action: () => unknown): Promise<NbdError> {
  const error = await Promise.resolve()
    .then(action)
    .catch((reason) => reason);
  if (!(error instanceof NbdError)) throw new Error(`no NbdError but ${error}`);
  return error;
}

/** Passes a wrong argument that the types forbid. */
const wrong = (value: unknown): never => value as never;

test('error.code: is the name of the errno, and has a value where there is no errno', () => {
  expect(new NbdError('x').code).toBe('ERR_NBD');
  expect(new NbdError('x', { errno: 28 }).code).toBe('ENOSPC');
  expect(new NbdServerError('x').code).toBe('EIO');
  expect(new NbdServerError('x', { errno: 95 }).code).toBe('EOPNOTSUPP');
  expect(new NbdProtocolError('x').code).toBe('EPROTO');
  expect(new TransportError('x', { errno: ECONNREFUSED }).code).toBe('ECONNREFUSED');
  expect(new NbdArgumentError('x')).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE', errno: EINVAL });
  expect(new NbdClosedError()).toMatchObject({ code: 'ERR_NBD_CLOSED', errno: ENOTCONN });
});

test('error.code: a connection that fails has the one of the system', async () => {
  const error = await errorOf(() => NbdClient.connect({ unix: `${scratchFolder()}/none` }));
  expect(error).toBeInstanceOf(TransportError);
  expect(error.code).toBe('ENOENT');
  expect(error.message).toContain('no such file or directory');
});

test.each<[string, (client: NbdClient) => unknown, string]>([
  ['a negative offset', (client) => client.read(-1, 512), 'ERR_OUT_OF_RANGE'],
  ['a fraction', (client) => client.zero(0, 0.5), 'ERR_OUT_OF_RANGE'],
  ['an offset that is text', (client) => client.read(wrong('0'), 512), 'ERR_INVALID_ARG_TYPE'],
  ['no offset', (client) => client.trim(wrong(undefined), 512), 'ERR_INVALID_ARG_TYPE'],
  ['a length that is a bigint', (client) => client.read(0, wrong(512n)), 'ERR_INVALID_ARG_TYPE'],
  ['a length beyond every Buffer', (client) => client.read(0, 2 ** 53 - 1), 'ERR_OUT_OF_RANGE'],
  ['bytes beyond the end', (client) => client.read(2 ** 20, 1), 'ERR_OUT_OF_RANGE'],
  ['a write of text', (client) => client.write(0, wrong('text')), 'ERR_INVALID_ARG_TYPE'],
  ['a read into an array', (client) => client.readInto(wrong([1, 2]), 0), 'ERR_INVALID_ARG_TYPE'],
])('wrong arguments: reject with NbdArgumentError for %s', async (_, call, code) => {
  const client = await connect(nbdkit('memory', '1M'));
  const error = await errorOf(() => call(client));
  expect(error).toBeInstanceOf(NbdArgumentError);
  expect(error).toMatchObject({ code, errno: EINVAL, name: 'NbdArgumentError' });
});

test.each<[string, unknown]>([
  ['nothing', undefined],
  ['a number', 5],
  ['an object of another form', { host: 'localhost' }],
  ['a host without a name', { tcp: {} }],
  ['a path that is no text', { unix: 5 }],
  ['a descriptor that is text', { fd: '3' }],
  ['a command in one word', { command: 'nbdkit -s' }],
  ['an empty command', { socketActivation: [] }],
  ['a URI that is a URL object', { uri: new URL('nbd://localhost') }],
])('wrong addresses: reject with NbdArgumentError for %s', async (_, address) => {
  for (const use of [NbdClient.connect, listExports, listMetaContexts]) {
    const error = await errorOf(() => use(address as ServerAddress));
    expect(error).toBeInstanceOf(NbdArgumentError);
    expect(error.code).toBe('ERR_INVALID_ARG_TYPE');
    expect(error.message).toMatch(/^bad address: /);
  }
});

test('wrong arguments: are NbdArgumentError for a URI, a number of connections, and an export name', async () => {
  expect((await errorOf(() => parseNbdUri('http://localhost'))).code).toBe('ERR_INVALID_ARG_VALUE');
  const address = nbdkit('memory', '1M');
  expect((await errorOf(() => NbdClient.connect(address, { connections: 0 }))).code).toBe('ERR_OUT_OF_RANGE');
  expect(await errorOf(() => NbdClient.connect(address, { exportName: 'a\0b' }))).toBeInstanceOf(
    NbdArgumentError,
  );
});

test('a closed client: every call rejects with NbdClosedError, and closed has it as its reason', async () => {
  const client = await connect(nbdkit('memory', '1M'));
  await client.close();
  const calls = [
    () => client.read(0, 512),
    () => client.write(0, Buffer.alloc(512)),
    () => client.zero(0, 512),
    () => client.flush(),
    () => client.blockStatus(0, 512),
  ];
  for (const call of calls) expect(await errorOf(call)).toBeInstanceOf(NbdClosedError);
  expect(await client.closed).toBeInstanceOf(NbdClosedError);
});

test('Symbol.asyncDispose: closes a client, and an open server', async () => {
  const client = await NbdClient.connect(nbdkit('memory', '1M'));
  await client[Symbol.asyncDispose]();
  expect(await client.closed).toBeInstanceOf(NbdClosedError);
  const server = await openServer({
    target: { kind: 'socket-activation', argv: ['nbdkit', 'memory', '1M'] },
    exportName: '',
  });
  const exited = server.exited;
  await server[Symbol.asyncDispose]();
  expect(await exited).toBeDefined();
});
