// The worker between a kernel and a server: FUSE requests and replies of a fake server arrive in the order of
// the test case.
//
// Byte 0 chooses the negotiated features; each instruction then is a request of the kernel or bytes of the
// server. Every request is answered once, with the server's bytes for that range, or an error. Sizes keep to
// what the kernel promises; the rest of a request is anything.

import {
  FUSE_BATCH_FORGET,
  FUSE_FALLOCATE,
  FUSE_FORGET,
  FUSE_FSYNC,
  FUSE_GETATTR,
  FUSE_GETXATTR,
  FUSE_INIT,
  FUSE_INTERRUPT,
  FUSE_LISTXATTR,
  FUSE_LOOKUP,
  FUSE_LSEEK,
  FUSE_OPEN,
  FUSE_READ,
  FUSE_READDIR,
  FUSE_READDIRPLUS,
  FUSE_SETATTR,
  FUSE_WRITE,
} from '../../../src/fuse/constants.js';
import type { ExportInfo } from '../../../src/nbd/export-info.js';
import { readNaively } from '../../../test/support/naive-receiver.js';
import { promise } from '../finding.js';
import { Input } from '../input.js';
import { makeStream } from '../reply-stream.js';
import { type KernelRequest, Rig } from '../worker-rig.js';

const OPCODES = [
  ...[FUSE_READ, FUSE_READ, FUSE_WRITE, FUSE_FSYNC, FUSE_FALLOCATE, FUSE_LSEEK, FUSE_LOOKUP, FUSE_GETATTR],
  ...[FUSE_SETATTR, FUSE_OPEN, FUSE_READDIR, FUSE_READDIRPLUS, FUSE_GETXATTR, FUSE_LISTXATTR, FUSE_INTERRUPT],
  ...[FUSE_INIT, FUSE_FORGET],
];
const NO_REPLY: readonly number[] = [FUSE_FORGET, FUSE_BATCH_FORGET, FUSE_INTERRUPT];
const MIB = 2 ** 20;
const SIZES = [BigInt(MIB), 1000n, 2n ** 63n - 1n, 0n, 2n ** 33n];
const LENGTHS = [512, 4096, 1, 65_536, 100_000, 131_072, 0];
const MOST_STEPS = 40;
/** Maximum bytes that the server sends at a time. */
const MOST_BYTES = 140_000;
/** Bytes before the body; little-endian hosts only. */
const HEADER = 40;

function infoOf(input: Input): ExportInfo {
  const choice = input.u8();
  const extendedHeaders = (choice & 1) !== 0;
  const structuredReplies = extendedHeaders || (choice & 2) !== 0;
  const contexts = [
    { id: 1, name: 'base:allocation' },
    { id: 2, name: 'qemu:allocation-depth' },
  ];
  const sizes = [
    { minimum: 1, preferred: 4096, maximum: 33_554_432 },
    { minimum: 512, preferred: 4096, maximum: 65_536 },
    undefined,
    { minimum: 4096, preferred: 4096, maximum: 1_048_576 },
  ];
  return {
    name: '',
    size: input.pick(SIZES),
    // HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, DF, MULTI_CONN, CACHE, FAST_ZERO.
    flags: 0xdad & ~(input.u8() << 2),
    blockSizes: sizes[(choice >> 2) & 3],
    description: undefined,
    canonicalName: undefined,
    structuredReplies,
    extendedHeaders,
    metaContexts: structuredReplies && (choice & 16) === 0 ? contexts : [],
    handshake: 'fixed-newstyle',
  };
}

/** A request of the kernel with a body like `fuse_read_in`, or any bytes if the body has no size. */
function ask(rig: Rig, input: Input, unique: bigint, info: ExportInfo): void {
  const choice = input.u8();
  const opcode = (choice & 0x80) !== 0 ? input.u8() : OPCODES[choice % OPCODES.length];
  const size = input.pick(LENGTHS) + (input.u8() & 7);
  const near = BigInt(input.u16() * 64 + (input.u8() & 7));
  const offset = (choice & 0x40) !== 0 ? BigInt.asUintN(63, info.size - near) : near;
  const data = opcode === FUSE_WRITE ? Buffer.alloc(size, input.u8()) : Buffer.alloc(0);
  const message = Buffer.alloc(HEADER + 104 + data.length);
  message.writeUInt32LE(opcode, 4);
  message.writeBigUInt64LE(unique, 8);
  message.writeBigUInt64LE(opcode === FUSE_LOOKUP || (choice & 0x20) !== 0 ? 1n : 2n, 16);
  if (
    opcode === FUSE_READ ||
    opcode === FUSE_WRITE ||
    opcode === FUSE_READDIR ||
    opcode === FUSE_READDIRPLUS
  ) {
    message.writeBigUInt64LE(offset, HEADER + 8);
    message.writeUInt32LE(size, HEADER + 16);
    message.writeUInt32LE(input.u8() & 1, HEADER + 20);
    message.writeUInt32LE((input.u8() & 1) * 0o40000 + (input.u8() & 1) * 0o10000, HEADER + 32);
    message.set(data, HEADER + 40);
  } else if (opcode === FUSE_FALLOCATE || opcode === FUSE_LSEEK) {
    message.writeBigUInt64LE(offset, HEADER + 8);
    if (opcode === FUSE_FALLOCATE)
      message.writeBigUInt64LE(BigInt(size) << BigInt(input.u8() & 40), HEADER + 16);
    else message.writeUInt32LE(input.pick([3, 4, 4, 9]), HEADER + 16);
    message.writeUInt32LE(input.pick([3, 1, 0x11, 0x10, 0, 0xffffffff]), HEADER + 24);
  } else message.set(input.bytes(input.u8() % 100), HEADER);
  if (opcode === FUSE_INIT) message.writeUInt32LE(7, HEADER);
  if (opcode === FUSE_INIT && message.readUInt32LE(HEADER + 4) < 28) message.writeUInt32LE(38, HEADER + 4);
  message.writeUInt32LE(message.length, 0);
  const expected: KernelRequest = { opcode, offset, size, reply: undefined };
  rig.ask(message, NO_REPLY.includes(opcode) ? undefined : expected);
}

/** The server replies to the requests so far: chunks by instruction, or any bytes. */
function say(rig: Rig, input: Input, info: ExportInfo): void {
  const instructions = input.bytes(1 + (input.u8() & 31));
  if (rig.commands.size === 0) rig.say(instructions);
  else rig.say(makeStream(new Input(instructions), info, rig.commands, MOST_BYTES));
}

/** Marks the bytes of `body`, from `offset` of the disk on, that a reply of the server has sent. */
function markSent(sent: Uint8Array, body: Uint8Array, offset: bigint, at: bigint, bytes: Uint8Array): void {
  const distance = Number(at - offset);
  const start = Math.max(distance, 0);
  const end = Math.min(distance + bytes.length, body.length);
  for (let i = start; i < end; i++) if (body[i] === bytes[i - distance]) sent[i] = 1;
}

/** A READ that succeeded has the bytes of the server's replies. */
function checkReads(rig: Rig, info: ExportInfo): void {
  const { replies } = readNaively(info, rig.commands, Buffer.concat(rig.said));
  for (const { opcode, offset, size, reply } of rig.requests.values()) {
    if (opcode !== FUSE_READ || reply === undefined || reply.error !== 0) continue;
    promise(reply.body.length <= size, 'a READ brings more bytes than it requested');
    const sent = new Uint8Array(reply.body.length);
    for (const [cookie, { error, bytes }] of replies) {
      const command = rig.commands.get(cookie);
      if (command?.type === 0 && error === 0) markSent(sent, reply.body, offset, command.offset, bytes);
    }
    promise(!sent.includes(0), 'a READ has a byte that the server has not sent');
  }
}

export function fuzz(data: Buffer): void {
  const input = new Input(data);
  const info = infoOf(input);
  const rig = new Rig(info);
  let unique = 2n;
  for (let step = 0; step < MOST_STEPS && input.left > 0; step++, unique += 2n) {
    if ((input.u8() & 3) === 0) say(rig, input, info);
    else ask(rig, input, unique, info);
  }
  rig.end();
  checkReads(rig, info);
  if (rig.loss?.breach === true)
    promise(!/[\p{Cc}]/u.test(rig.loss.why), 'the message about a breach is longer than a line');
}
