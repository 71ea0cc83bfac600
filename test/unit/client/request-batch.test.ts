import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { RequestBatch } from '../../../src/client/request-batch.js';
import { REQUEST_LENGTH } from '../../../src/nbd/transmission/request.js';
import { NBD_CMD_READ, NBD_CMD_WRITE } from '../../support/nbd-numbers.js';

const request = (type: number, cookieLo: number) => ({
  type,
  flags: 0,
  cookieHi: 0,
  cookieLo,
  offsetHi: 0,
  offsetLo: 0,
  length: 4,
});

/** A batch, and the writes that reach its socket: each is a list of the bytes that it gathers. */
function batchAndWrites() {
  const writes: Buffer[][] = [];
  const record = (...chunks: Buffer[]) => writes.push(chunks);
  const socket = new Writable({
    write: (chunk, _encoding, done) => {
      record(chunk);
      done();
    },
    writev: (chunks, done) => {
      record(...chunks.map(({ chunk }) => chunk));
      done();
    },
  });
  return { writes, batch: new RequestBatch(socket, false) };
}

const cookieOf = (bytes: Buffer, at = 0) => bytes.readUInt32BE(at + 12);
const afterThisTurn = () => new Promise((resolve) => setImmediate(resolve));

test('request batch: the requests of one turn leave in one write', async () => {
  const { writes, batch } = batchAndWrites();
  for (let cookie = 1; cookie <= 200; cookie++) batch.add(request(NBD_CMD_READ, cookie), undefined);
  await Promise.resolve();
  batch.add(request(NBD_CMD_READ, 201), undefined);
  expect(writes).toEqual([]);
  await afterThisTurn();
  expect(writes.length).toBe(1);
  const bytes = Buffer.concat(writes[0]);
  expect(bytes.length).toBe(201 * REQUEST_LENGTH);
  for (let i = 0; i < 201; i++) expect(cookieOf(bytes, i * REQUEST_LENGTH)).toBe(i + 1);
});

test('request batch: a payload follows its header, without a copy', async () => {
  const { writes, batch } = batchAndWrites();
  const payload = Buffer.from('data');
  batch.add(request(NBD_CMD_READ, 1), undefined);
  batch.add(request(NBD_CMD_WRITE, 2), payload);
  batch.add(request(NBD_CMD_READ, 3), undefined);
  await afterThisTurn();
  expect(writes.length).toBe(1);
  const [first, data, last] = writes[0];
  expect([cookieOf(first), cookieOf(first, REQUEST_LENGTH), cookieOf(last)]).toEqual([1, 2, 3]);
  expect(data.buffer).toBe(payload.buffer);
  expect(data.equals(payload)).toBe(true);
});

test('request batch: what one write sends stays as it is when later requests come', async () => {
  const { writes, batch } = batchAndWrites();
  for (let cookie = 1; cookie <= 1000; cookie++) {
    batch.add(request(NBD_CMD_READ, cookie), undefined);
    batch.flush();
  }
  await afterThisTurn();
  expect(writes.flat().map((bytes) => cookieOf(bytes))).toEqual(
    Array.from({ length: 1000 }, (_, i) => i + 1),
  );
});
