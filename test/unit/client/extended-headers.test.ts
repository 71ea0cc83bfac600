import type { Socket } from 'node:net';
import { expect, test } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { hex } from '../../support/hex.js';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_DISC,
  NBD_CMD_WRITE,
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_GO,
  NBD_OPT_SET_META_CONTEXT,
  NBD_REP_ACK,
} from '../../support/nbd-numbers.js';
import { startRawServer } from '../../support/raw-server.js';
import { connect, framed } from './support.js';

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

const optionReply = (option: number, type: number, data: Uint8Array = Buffer.alloc(0)) => hex`
  0003e889045565a9     | option reply magic
  ${u32(option)}       | option
  ${u32(type)}         | reply type
  ${u32(data.length)}  | length
  ${data}              | data
`;

/** Replies to the options that a client sends; true when the transmission phase begins. */
function answerOption(option: number, socket: Socket): boolean {
  if (option === NBD_OPT_SET_META_CONTEXT) {
    socket.write(optionReply(option, 4, hex`00000009 "base:allocation"`));
  } else if (option === NBD_OPT_GO) {
    socket.write(
      optionReply(
        option,
        3,
        hex`
        0000               | NBD_INFO_EXPORT
        0000400000000000   | size: 64 TiB
        046d               | HAS_FLAGS, SEND_FLUSH, FUA, TRIM, WRITE_ZEROES, CACHE
      `,
      ),
    );
  } else if (option !== NBD_OPT_EXTENDED_HEADERS) {
    socket.write(optionReply(option, 0x80000001));
    return false;
  }
  socket.write(optionReply(option, NBD_REP_ACK));
  return option === NBD_OPT_GO;
}

/** A chunk of an extended reply. */
const chunk = (request: Buffer, flags: string, type: string, payload: Uint8Array = Buffer.alloc(0)) => hex`
  6e8a278c                      | extended reply magic
  ${Buffer.from(flags, 'hex')}  | flags
  ${Buffer.from(type, 'hex')}   | type
  ${request.subarray(8, 16)}    | cookie
  ${request.subarray(16, 24)}   | offset
  00000000                      | length, high half
  ${u32(payload.length)}        | length, low half
  ${payload}                    | payload
`;

/** A server with extended headers; `serve` gets whole requests. */
async function extendedServer(serve: (request: Buffer, socket: Socket) => void): Promise<string> {
  const { socketPath } = await startRawServer(createScope(), (socket) => {
    socket.write(hex`
      "NBDMAGIC" "IHAVEOPT"  | magic
      0003                   | NBD_FLAG_FIXED_NEWSTYLE, NBD_FLAG_NO_ZEROES
    `);
    let phase: 'flags' | 'options' | 'transmission' = 'flags';
    const need = (held: Buffer) => {
      if (phase === 'flags') return 4;
      if (phase === 'options') return held.length < 16 ? 16 : 16 + held.readUInt32BE(12);
      if (held.length < 32) return 32;
      return held.readUInt16BE(6) === NBD_CMD_WRITE ? 32 + Number(held.readBigUInt64BE(24)) : 32;
    };
    framed(socket, need, (frame) => {
      if (phase === 'flags') phase = 'options';
      else if (phase === 'options')
        phase = answerOption(frame.readUInt32BE(8), socket) ? 'transmission' : 'options';
      else if (frame.readUInt16BE(6) === NBD_CMD_DISC) socket.end();
      else serve(frame, socket);
    });
  });
  return socketPath;
}

test('extended headers: a WRITE marks its length as that of a payload, and a READ gets chunks', async () => {
  const heads: string[] = [];
  const unix = await extendedServer((request, socket) => {
    heads.push(request.subarray(0, 8).toString('hex') + request.subarray(16, 32).toString('hex'));
    if (request.readUInt16BE(6) === NBD_CMD_WRITE) socket.write(chunk(request, '0001', '0000'));
    else {
      const data = Buffer.concat([request.subarray(16, 24), Buffer.alloc(512, 5)]);
      socket.write(chunk(request, '0001', '0001', data));
    }
  });
  const client = await connect({ unix });
  expect(client.info.extendedHeaders).toBe(true);
  expect(client.size).toBe(2n ** 46n);
  await client.write(2n ** 45n, Buffer.alloc(512));
  expect((await client.read(2n ** 45n, 512)).equals(Buffer.alloc(512, 5))).toBe(true);
  expect(heads).toEqual([
    // magic, flags (NBD_CMD_FLAG_PAYLOAD_LEN), type, offset, length
    `21e41c71${'0020'}${'0001'}${'0000200000000000'}${'0000000000000200'}`,
    `21e41c71${'0000'}${'0000'}${'0000200000000000'}${'0000000000000200'}`,
  ]);
});

test('extended headers: trim, zero and block status of many TiB take one request each', async () => {
  const lengths: bigint[] = [];
  const unix = await extendedServer((request, socket) => {
    lengths.push(request.readBigUInt64BE(24));
    if (request.readUInt16BE(6) !== NBD_CMD_BLOCK_STATUS) {
      socket.write(chunk(request, '0001', '0000'));
      return;
    }
    const payload = hex`
      00000009                           | context
      00000002                           | extents
      0000100000000000 0000000000000000  | 16 TiB of data
      0000300000000000 0000000000000003  | 48 TiB of hole
    `;
    socket.write(chunk(request, '0001', '0006', payload));
  });
  const client = await connect({ unix });
  const size = 2n ** 46n;
  await client.trim(0, size);
  await client.zero(0, size);
  expect(await client.blockStatus(0, size)).toEqual({
    'base:allocation': [
      { offset: 0n, length: 2n ** 44n, flags: 0 },
      { offset: 2n ** 44n, length: 3n * 2n ** 44n, flags: 3 },
    ],
  });
  expect(lengths).toEqual([size, size, size]);
});

test('extended headers: block status of a metadata context that was not negotiated ends the connection', async () => {
  const unix = await extendedServer((request, socket) => {
    const payload = hex`
      0000000a                           | a context that the client did not request
      00000001                           | extents
      0000400000000000 0000000000000003  | 64 TiB of hole
    `;
    socket.write(chunk(request, '0000', '0006', payload));
  });
  const client = await connect({ unix });
  await expect(client.blockStatus(0, 512)).rejects.toThrow(/context that was not negotiated/);
});
