// Servers that break the rules of the handshake, refuse, or close the connection.
import { describe, expect, it } from 'vitest';
import { Handshake, type HandshakeOptions } from '../../../src/nbd/handshake/handshake.js';
import {
  converse,
  FIXED_NEWSTYLE,
  INFO_EXPORT,
  OPT,
  optionReply,
  optionRequest,
  REP,
} from '../../support/handshake-pair.js';
import { hex } from '../../support/hex.js';

const PLAIN: HandshakeOptions = {
  goal: { kind: 'go', exportName: 'disk' },
  tls: 'disable',
  structuredReplies: false,
  extendedHeaders: false,
};
const LIST: HandshakeOptions = { ...PLAIN, goal: { kind: 'list' } };
const CONTEXTS: HandshakeOptions = { ...PLAIN, structuredReplies: true };
const STRUCTURED = optionReply(OPT.STRUCTURED_REPLY, REP.ACK);

function info(data: Uint8Array): Uint8Array {
  return optionReply(OPT.GO, REP.INFO, data);
}

function blockSizes(minimum: string, preferred: string, maximum: string): Uint8Array {
  const [least, best, most] = [minimum, preferred, maximum].map((field) => Buffer.from(field, 'hex'));
  return info(hex`0003 ${least ?? ''} ${best ?? ''} ${most ?? ''}`);
}

describe('a breach ends the handshake, without NBD_OPT_ABORT', () => {
  it.each<[string, HandshakeOptions, Uint8Array[]]>([
    ['a server that is none', PLAIN, [hex`"SSH-2.0-OpenSSH_9.2"`]],
    ['an unknown second magic', PLAIN, [hex`"NBDMAGIC" "NBDMAGIC"`]],
    ['a reply with another magic', PLAIN, [FIXED_NEWSTYLE, hex`0003e889045565a8 00000007 00000001 00000000`]],
    ['a reply to an option that was not sent', PLAIN, [FIXED_NEWSTYLE, optionReply(OPT.LIST, REP.ACK)]],
    [
      'a reply longer than 65536 bytes',
      PLAIN,
      [FIXED_NEWSTYLE, hex`0003e889045565a9 00000007 00000003 00010001`],
    ],
    ['a reply longer than memory', PLAIN, [FIXED_NEWSTYLE, hex`0003e889045565a9 00000007 80000001 ffffffff`]],
    [
      'an acknowledgement that carries data',
      PLAIN,
      [FIXED_NEWSTYLE, info(INFO_EXPORT), optionReply(OPT.GO, REP.ACK, hex`00`)],
    ],
    [
      'a reply type of another option',
      PLAIN,
      [FIXED_NEWSTYLE, optionReply(OPT.GO, REP.SERVER, hex`00000000`)],
    ],
    ['a reply type that nobody knows', PLAIN, [FIXED_NEWSTYLE, optionReply(OPT.GO, '00000099')]],
    [
      'an export without NBD_INFO_EXPORT ("NBD_REP_INFO")',
      PLAIN,
      [FIXED_NEWSTYLE, optionReply(OPT.GO, REP.ACK)],
    ],
    ['an NBD_INFO_EXPORT that is too short', PLAIN, [FIXED_NEWSTYLE, info(hex`0000 0000000000100000`)]],
    ['an NBD_INFO_EXPORT that is too long', PLAIN, [FIXED_NEWSTYLE, info(hex`${INFO_EXPORT} 00`)]],
    ['an information reply without a type', PLAIN, [FIXED_NEWSTYLE, info(hex`00`)]],
    ['a size of 2^63', PLAIN, [FIXED_NEWSTYLE, info(hex`0000 8000000000000000 0001`)]],
    ['a size of 2^64-1', PLAIN, [FIXED_NEWSTYLE, info(hex`0000 ffffffffffffffff 0001`)]],
    ['a name of 4097 bytes ("Conventions")', PLAIN, [FIXED_NEWSTYLE, info(hex`0001 61*4097`)]],
    ['a description with a NUL ("Conventions")', PLAIN, [FIXED_NEWSTYLE, info(hex`0002 "a" 00`)]],
    ['an NBD_INFO_BLOCK_SIZE that is too short', PLAIN, [FIXED_NEWSTYLE, info(hex`0003 00000001 00001000`)]],
    [
      'block sizes that change',
      PLAIN,
      [
        FIXED_NEWSTYLE,
        blockSizes('00000200', '00001000', '00100000'),
        blockSizes('00000001', '00001000', '00100000'),
      ],
    ],
    ['65 pieces of information', PLAIN, [FIXED_NEWSTYLE, ...Array<Uint8Array>(65).fill(info(hex`7777`))]],
    [
      'a listed name longer than its reply',
      LIST,
      [FIXED_NEWSTYLE, optionReply(OPT.LIST, REP.SERVER, hex`00000005 "disk"`)],
    ],
    [
      'a listed name of 2^32-1 bytes',
      LIST,
      [FIXED_NEWSTYLE, optionReply(OPT.LIST, REP.SERVER, hex`ffffffff "disk"`)],
    ],
    ['a listed export without a name', LIST, [FIXED_NEWSTYLE, optionReply(OPT.LIST, REP.SERVER, hex`0000`)]],
    [
      'a metadata context without an id',
      CONTEXTS,
      [FIXED_NEWSTYLE, STRUCTURED, optionReply(OPT.SET_META_CONTEXT, REP.META_CONTEXT, hex`000000`)],
    ],
    [
      'two metadata contexts of one id ("NBD_OPT_SET_META_CONTEXT")',
      CONTEXTS,
      [
        FIXED_NEWSTYLE,
        STRUCTURED,
        optionReply(OPT.SET_META_CONTEXT, REP.META_CONTEXT, hex`00000001 "base:allocation"`),
        optionReply(OPT.SET_META_CONTEXT, REP.META_CONTEXT, hex`00000001 "qemu:allocation-depth"`),
      ],
    ],
  ])('%s', (_, options, script) => {
    const { error, abortBytes } = converse(options, script);
    expect(error).toMatchObject({ name: 'NbdProtocolError' });
    expect(abortBytes).toBe('');
  });

  it('data before the first request', () => {
    const early = hex`${optionReply(OPT.GO, REP.ACK)} 67446698`;
    const { error } = converse(PLAIN, [FIXED_NEWSTYLE, info(INFO_EXPORT), early]);
    expect(error?.message).toMatch(/bytes before the first request/);
  });

  it('zeroes after NBD_OPT_GO ("NBD_OPT_INFO and NBD_OPT_GO": no padding)', () => {
    const { error } = converse(PLAIN, [
      FIXED_NEWSTYLE,
      info(INFO_EXPORT),
      optionReply(OPT.GO, REP.ACK),
      hex`00*124`,
    ]);
    expect(error?.name).toBe('NbdProtocolError');
  });

  it('an endless list ends at 10000 exports', () => {
    const entry = optionReply(OPT.LIST, REP.SERVER, hex`00000001 "x"`);
    const { error } = converse(LIST, [FIXED_NEWSTYLE, ...Array<Uint8Array>(10_001).fill(entry)]);
    expect(error?.message).toBe('the server sent too many replies to NBD_OPT_LIST (10001)');
  });

  it('a list of long descriptions ends at 16 MiB', () => {
    const handshake = new Handshake(LIST);
    handshake.receive(FIXED_NEWSTYLE);
    const entry = optionReply(OPT.LIST, REP.SERVER, hex`00000001 "x" 61*4096`);
    const endless = () => {
      for (let i = 0; i < 10_000; i++) handshake.receive(entry);
    };
    expect(endless).toThrow('the server sent too many replies to NBD_OPT_LIST (4072)');
  });
});

describe('handshake refusal', () => {
  it.each([
    ['unknown exports', REP.ERR_UNKNOWN, 2, 'the server has no such export'],
    ['policy', REP.ERR_POLICY, 1, "the server's policy forbids it"],
    [
      'block sizes it insists on',
      REP.ERR_BLOCK_SIZE_REQD,
      22,
      'the server requires clients to keep to its block sizes',
    ],
    ['a reason from the future', '80001234', 5, 'NBD_OPT_GO: 0x80001234'],
  ])('of the export for %s ends with NBD_OPT_ABORT', (_, refusal, errno, why) => {
    const { error, abortBytes } = converse(PLAIN, [
      FIXED_NEWSTYLE,
      info(INFO_EXPORT),
      optionReply(OPT.GO, refusal),
    ]);
    expect(error).toMatchObject({ name: 'NbdServerError', errno, option: 7 });
    expect(error?.message).toContain(why);
    expect(abortBytes).toBe(optionRequest(OPT.ABORT));
  });

  it.each([
    ['headers', { ...PLAIN, extendedHeaders: true }, OPT.EXTENDED_HEADERS],
    ['the list', LIST, OPT.LIST],
    ['the export', PLAIN, OPT.GO],
  ])(
    'of %s because of a shutdown leads to NBD_OPT_ABORT ("Termination of the session")',
    (_, options, option) => {
      const { error, abortBytes } = converse(options, [
        FIXED_NEWSTYLE,
        optionReply(option, REP.ERR_SHUTDOWN),
      ]);
      expect(error).toMatchObject({ name: 'NbdServerError', errno: 108 });
      expect(abortBytes).toBe(optionRequest(OPT.ABORT));
    },
  );

  it('has an escaped text of 4096 bytes at most', () => {
    const { error } = converse(PLAIN, [FIXED_NEWSTYLE, optionReply(OPT.GO, REP.ERR_POLICY, hex`0a*60000`)]);
    expect(error).toMatchObject({ serverText: '\n'.repeat(4096) });
    expect(error?.message.split('\n')).toHaveLength(1);
  });

  it('discards earlier facts about the export', () => {
    const { events } = converse(PLAIN, [
      FIXED_NEWSTYLE,
      info(INFO_EXPORT),
      optionReply(OPT.GO, REP.ERR_UNSUP),
      hex`0000000000200000 0001`,
    ]);
    expect(events[0]).toMatchObject({ info: { size: 2097152n } });
  });
});

describe('handshake with a server that closes the connection', () => {
  it.each<[string, Uint8Array[], string]>([
    ['at once', [], 'before its greeting'],
    ['in the middle of its greeting', [hex`"NBDM"`], 'before its greeting'],
    ['after its name', [hex`"NBDMAGIC"`], 'before its kind of handshake'],
    ['during NBD_OPT_GO', [FIXED_NEWSTYLE], 'before its reply to NBD_OPT_GO'],
    [
      'in the middle of a reply',
      [FIXED_NEWSTYLE, info(INFO_EXPORT).subarray(0, 25)],
      'before its reply to NBD_OPT_GO',
    ],
  ])('%s: the error names the pending step', (_, script, when) => {
    const { ended, abortBytes } = converse(PLAIN, script);
    expect(ended).toBe(`the server closed the connection ${when}`);
    expect(abortBytes).toBe('');
  });
});

describe('flags that depend on other options are off without them ("Transmission flags")', () => {
  const DF_FAST_ZERO_PAYLOAD = info(hex`0000 0000000000100000 1881`);

  it('NBD_FLAG_SEND_DF, NBD_FLAG_SEND_FAST_ZERO, NBD_FLAG_BLOCK_STATUS_PAYLOAD', () => {
    const { events } = converse(PLAIN, [FIXED_NEWSTYLE, DF_FAST_ZERO_PAYLOAD, optionReply(OPT.GO, REP.ACK)]);
    expect(events[0]).toMatchObject({ info: { flags: 0x0001 } });
  });

  it('unknown flags stay set', () => {
    const { events } = converse(PLAIN, [
      FIXED_NEWSTYLE,
      info(hex`0000 0000000000100000 e841`),
      optionReply(OPT.GO, REP.ACK),
    ]);
    expect(events[0]).toMatchObject({ info: { flags: 0xe841 } });
  });
});
