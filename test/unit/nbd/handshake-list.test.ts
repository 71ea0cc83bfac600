// Handshakes that list or describe exports and then send NBD_OPT_ABORT.
import { describe, expect, it } from 'vitest';
import type { HandshakeOptions } from '../../../src/nbd/handshake/handshake.js';
import {
  converse,
  FIXED_NEWSTYLE,
  INFO_EXPORT,
  OPT,
  optionReply,
  optionRequest,
  REP,
} from '../../support/handshake-pair.js';
import { hex, toHex } from '../../support/hex.js';

const LIST: HandshakeOptions = {
  goal: { kind: 'list' },
  tls: 'disable',
  structuredReplies: false,
  extendedHeaders: false,
};
const DESCRIBE: HandshakeOptions = { ...LIST, goal: { kind: 'info', exportName: 'disk' } };

const ABORT = optionRequest(OPT.ABORT);
const DISCONNECT = toHex(hex`
  25609513 | NBD_REQUEST_MAGIC
  0000     | command flags
  0002     | NBD_CMD_DISC
  00*8     | cookie
  00*8     | offset
  00*4     | length
`);

function infoRequest(name: string): string {
  const length = name.length.toString(16).padStart(8, '0');
  return optionRequest(OPT.INFO, `${length}${toHex(Buffer.from(name))}0003000100020003`);
}

function server(name: string, description = ''): Uint8Array {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(Buffer.byteLength(name));
  return optionReply(OPT.LIST, REP.SERVER, hex`${length} ${name} ${description}`);
}

describe('list of exports', () => {
  it('requests the list, then each export, then sends NBD_OPT_ABORT', () => {
    const { sent, events } = converse(LIST, [
      FIXED_NEWSTYLE,
      server('a', 'first'),
      server('b'),
      optionReply(OPT.LIST, REP.ACK),
      optionReply(OPT.INFO, REP.INFO, INFO_EXPORT),
      optionReply(OPT.INFO, REP.ACK),
      optionReply(OPT.INFO, REP.INFO, hex`0002 "second"`),
      optionReply(OPT.INFO, REP.INFO, hex`0000 0000000000000000 0003`),
      optionReply(OPT.INFO, REP.ACK),
    ]);
    expect(sent).toEqual([
      `00000003${optionRequest(OPT.LIST)}`,
      '',
      '',
      infoRequest('a'),
      '',
      infoRequest('b'),
      '',
      '',
      ABORT,
    ]);
    expect(events).toMatchObject([
      {
        type: 'listed',
        exports: [
          { name: 'a', description: 'first', info: { name: 'a', size: 1048576n, description: undefined } },
          { name: 'b', description: 'second', info: { name: 'b', size: 0n, flags: 3 } },
        ],
      },
    ]);
  });

  it('works without NBD_OPT_INFO if the server does not support it', () => {
    const { sent, events } = converse(LIST, [
      FIXED_NEWSTYLE,
      server('a'),
      server('b'),
      optionReply(OPT.LIST, REP.ACK),
      optionReply(OPT.INFO, REP.ERR_UNSUP),
    ]);
    expect(sent.at(-1)).toBe(ABORT);
    expect(events).toEqual([{ type: 'listed', exports: [{ name: 'a' }, { name: 'b' }] }]);
  });

  it.each([
    ['needs TLS', REP.ERR_TLS_REQD],
    ['has gone', REP.ERR_UNKNOWN],
    ['is forbidden', REP.ERR_POLICY],
  ])('continues past an export that %s', (_, refusal) => {
    const { events } = converse(LIST, [
      FIXED_NEWSTYLE,
      server('a'),
      server('b'),
      optionReply(OPT.LIST, REP.ACK),
      optionReply(OPT.INFO, REP.INFO, INFO_EXPORT),
      optionReply(OPT.INFO, refusal),
      optionReply(OPT.INFO, REP.INFO, INFO_EXPORT),
      optionReply(OPT.INFO, REP.ACK),
    ]);
    expect(events).toMatchObject([{ exports: [{ name: 'a' }, { name: 'b', info: { size: 1048576n } }] }]);
    expect(events[0]).not.toHaveProperty('exports.0.info');
  });

  it('may be empty', () => {
    const { sent, events } = converse(LIST, [FIXED_NEWSTYLE, optionReply(OPT.LIST, REP.ACK)]);
    expect(sent.at(-1)).toBe(ABORT);
    expect(events).toEqual([{ type: 'listed', exports: [] }]);
  });

  it('reports after NBD_OPT_ABORT that the server forbids the list', () => {
    const { error, abortBytes } = converse(LIST, [
      FIXED_NEWSTYLE,
      optionReply(OPT.LIST, REP.ERR_POLICY, hex`"ask " 1b "[31mthe admin"`),
    ]);
    expect(error?.message).toBe(
      "cannot list exports: the server's policy forbids it (NBD_OPT_LIST: NBD_REP_ERR_POLICY); the server says: ask \\x1b[31mthe admin",
    );
    expect(error).toMatchObject({
      option: 3,
      replyType: 0x80000002,
      serverText: 'ask \x1b[31mthe admin',
      errno: 1,
    });
    expect(abortBytes).toBe(ABORT);
  });

  it('fails with a newstyle server that is not fixed', () => {
    const { error, abortBytes } = converse(LIST, [hex`"NBDMAGIC" "IHAVEOPT" 0000`]);
    expect(error?.message).toContain('too old');
    expect(abortBytes).toBe('');
  });

  it('has the one nameless export of an oldstyle server, and disconnects', () => {
    const { sent, events } = converse(LIST, [
      hex`"NBDMAGIC" 0000420281861253 0000000000100000 00000001 00*124`,
    ]);
    expect(sent).toEqual([DISCONNECT]);
    expect(events).toMatchObject([
      { type: 'listed', exports: [{ name: '', info: { handshake: 'oldstyle' } }] },
    ]);
  });

  it('drops the reply to NBD_OPT_ABORT, an acknowledgement or nothing ("NBD_OPT_ABORT")', () => {
    const { error, ended } = converse(LIST, [
      FIXED_NEWSTYLE,
      optionReply(OPT.LIST, REP.ACK),
      optionReply(OPT.ABORT, REP.ACK),
    ]);
    expect([error, ended]).toEqual([undefined, undefined]);
  });

  it('describes the first 256 exports only', () => {
    const many = Array.from({ length: 300 }, (_, i) => server(`e${i}`));
    const answers = Array.from({ length: 256 }, () => optionReply(OPT.INFO, REP.ERR_UNKNOWN));
    const { sent, events } = converse(LIST, [
      FIXED_NEWSTYLE,
      ...many,
      optionReply(OPT.LIST, REP.ACK),
      ...answers,
    ]);
    expect(sent.at(-1)).toBe(ABORT);
    expect(events).toMatchObject([{ type: 'listed', exports: { length: 300 } }]);
  });
});

describe('description of an export', () => {
  it('uses NBD_OPT_INFO and NBD_OPT_ABORT', () => {
    const { sent, events } = converse(DESCRIBE, [
      FIXED_NEWSTYLE,
      optionReply(OPT.INFO, REP.INFO, INFO_EXPORT),
      optionReply(OPT.INFO, REP.ACK),
    ]);
    expect(sent).toEqual([`00000003${infoRequest('disk')}`, '', ABORT]);
    expect(events).toMatchObject([{ type: 'described', info: { name: 'disk', size: 1048576n } }]);
  });

  it('opens the export and disconnects where the server does not know NBD_OPT_INFO', () => {
    const { sent, events } = converse(DESCRIBE, [
      FIXED_NEWSTYLE,
      optionReply(OPT.INFO, REP.ERR_UNSUP),
      hex`0000000000100000 0001`,
    ]);
    expect(sent.slice(1)).toEqual([optionRequest(OPT.EXPORT_NAME, toHex(hex`"disk"`)), DISCONNECT]);
    expect(events).toMatchObject([{ type: 'described' }]);
  });

  it('reports that there is no export of that name', () => {
    const { error } = converse(DESCRIBE, [FIXED_NEWSTYLE, optionReply(OPT.INFO, REP.ERR_UNKNOWN)]);
    expect(error).toMatchObject({ name: 'NbdServerError', errno: 2, replyType: 0x80000006 });
    expect(error?.message).toBe(
      'cannot open export "disk": the server has no such export (NBD_OPT_INFO: NBD_REP_ERR_UNKNOWN)',
    );
  });
});

describe('list of metadata contexts', () => {
  const goal = { kind: 'contexts', exportName: 'disk', queries: ['qemu:', 'base:allocation'] } as const;
  const CONTEXTS: HandshakeOptions = { ...LIST, structuredReplies: undefined, goal };
  const STRUCTURED = optionReply(OPT.STRUCTURED_REPLY, REP.ACK);
  const context = (id: string, name: string) =>
    optionReply(OPT.LIST_META_CONTEXT, REP.META_CONTEXT, hex`${Buffer.from(id, 'hex')} ${Buffer.from(name)}`);
  const request = optionRequest(
    OPT.LIST_META_CONTEXT,
    toHex(hex`00000004 "disk" 00000002 00000005 "qemu:" 0000000f "base:allocation"`),
  );

  it('follows structured replies, and disregards the ids ("NBD_OPT_LIST_META_CONTEXT")', () => {
    const { sent, events } = converse(CONTEXTS, [
      FIXED_NEWSTYLE,
      STRUCTURED,
      context('00000000', 'base:allocation'),
      context('00000000', 'qemu:dirty-bitmap:b'),
      optionReply(OPT.LIST_META_CONTEXT, REP.ACK),
    ]);
    expect(sent.slice(1)).toEqual([request, '', '', ABORT]);
    expect(events).toEqual([{ type: 'contexts', names: ['base:allocation', 'qemu:dirty-bitmap:b'] }]);
  });

  it('sends no query to a server without structured replies ("NBD_OPT_LIST_META_CONTEXT")', () => {
    const { sent, error, abortBytes } = converse(CONTEXTS, [
      FIXED_NEWSTYLE,
      optionReply(OPT.STRUCTURED_REPLY, REP.ERR_UNSUP),
    ]);
    expect(sent).toHaveLength(1);
    expect(error).toMatchObject({ errno: 95 });
    expect(abortBytes).toBe(ABORT);
  });

  it('disregards contexts before an error ("NBD_OPT_LIST_META_CONTEXT")', () => {
    const { events, error, abortBytes } = converse(CONTEXTS, [
      FIXED_NEWSTYLE,
      STRUCTURED,
      context('00000000', 'base:allocation'),
      optionReply(OPT.LIST_META_CONTEXT, REP.ERR_UNKNOWN),
    ]);
    expect(events).toEqual([]);
    expect(error?.message).toBe(
      'cannot list metadata contexts of export "disk": the server has no such export (NBD_OPT_LIST_META_CONTEXT: NBD_REP_ERR_UNKNOWN)',
    );
    expect(abortBytes).toBe(ABORT);
  });

  it('fails with servers without options', () => {
    const oldstyle = hex`"NBDMAGIC" 0000420281861253 0000000000100000 00000001 00*124`;
    for (const server of [hex`"NBDMAGIC" "IHAVEOPT" 0000`, oldstyle])
      expect(converse(CONTEXTS, [server]).error?.message).toContain('too old');
  });

  it.each([[['nonsense']], [[':leaf']], [[`x:${'y'.repeat(4096)}`]]])('refuses the queries %j', (queries) => {
    const options = { ...CONTEXTS, goal: { ...goal, queries } };
    expect(() => converse(options, [])).toThrow('namespace:leaf-name');
  });
});
