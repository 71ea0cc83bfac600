// Handshakes that end in the transmission phase: each style of server, and the negotiated features.
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

const GO: HandshakeOptions = { goal: { kind: 'go', exportName: 'disk' }, tls: 'disable' };
const PLAIN: HandshakeOptions = { ...GO, structuredReplies: false, extendedHeaders: false };

const CLIENT_FLAGS = '00000003';
const GO_DISK = optionRequest(
  OPT.GO,
  toHex(hex`
    00000004 | length of name
    "disk"   | name
    0003     | information requests
    0001     | NBD_INFO_NAME
    0002     | NBD_INFO_DESCRIPTION
    0003     | NBD_INFO_BLOCK_SIZE
  `),
);
const ACCEPTED = [optionReply(OPT.GO, REP.INFO, INFO_EXPORT), optionReply(OPT.GO, REP.ACK)];

describe('fixed newstyle server', () => {
  it('gets requests for 64-bit headers, then structured replies, then contexts, then the export', () => {
    const { sent, events, error } = converse(GO, [
      FIXED_NEWSTYLE,
      optionReply(OPT.EXTENDED_HEADERS, REP.ERR_UNSUP),
      optionReply(OPT.STRUCTURED_REPLY, REP.ACK),
      optionReply(
        OPT.SET_META_CONTEXT,
        REP.META_CONTEXT,
        hex`
          0000002a          | context id
          "base:allocation" | name
        `,
      ),
      optionReply(OPT.SET_META_CONTEXT, REP.ACK),
      ...ACCEPTED,
    ]);
    expect(error).toBeUndefined();
    expect(sent).toEqual([
      CLIENT_FLAGS + optionRequest(OPT.EXTENDED_HEADERS),
      optionRequest(OPT.STRUCTURED_REPLY),
      optionRequest(
        OPT.SET_META_CONTEXT,
        toHex(hex`
          00000004          | length of name
          "disk"            | name
          00000001          | queries
          0000000f          | length of query
          "base:allocation" | query
        `),
      ),
      '',
      GO_DISK,
      '',
      '',
    ]);
    expect(events).toEqual([
      {
        type: 'ready',
        info: {
          name: 'disk',
          size: 1048576n,
          flags: 5,
          blockSizes: undefined,
          description: undefined,
          canonicalName: undefined,
          structuredReplies: true,
          extendedHeaders: false,
          metaContexts: [{ id: 42, name: 'base:allocation' }],
          handshake: 'fixed-newstyle',
        },
      },
    ]);
  });

  it('gets no request for structured replies when it has 64-bit headers, which imply them', () => {
    const { sent, events } = converse({ ...GO, metaContexts: [] }, [
      FIXED_NEWSTYLE,
      optionReply(OPT.EXTENDED_HEADERS, REP.ACK),
      ...ACCEPTED,
    ]);
    expect(sent[1]).toBe(GO_DISK);
    expect(events[0]).toMatchObject({ info: { structuredReplies: true, extendedHeaders: true } });
  });

  it('may refuse every option but the export', () => {
    const { events } = converse(GO, [
      FIXED_NEWSTYLE,
      optionReply(OPT.EXTENDED_HEADERS, REP.ERR_UNSUP),
      optionReply(OPT.STRUCTURED_REPLY, REP.ERR_POLICY, hex`"not today"`),
      ...ACCEPTED,
    ]);
    expect(events[0]).toMatchObject({
      info: { structuredReplies: false, extendedHeaders: false, metaContexts: [] },
    });
  });

  it('has no contexts when it refuses them after naming some ("NBD_OPT_SET_META_CONTEXT")', () => {
    const { events } = converse({ ...GO, extendedHeaders: false }, [
      FIXED_NEWSTYLE,
      optionReply(OPT.STRUCTURED_REPLY, REP.ACK),
      optionReply(OPT.SET_META_CONTEXT, REP.META_CONTEXT, hex`00000001 "base:allocation"`),
      optionReply(OPT.SET_META_CONTEXT, REP.ERR_TOO_BIG),
      ...ACCEPTED,
    ]);
    expect(events[0]).toMatchObject({ info: { structuredReplies: true, metaContexts: [] } });
  });

  it('sends name, description and block sizes in any order, before or after the size', () => {
    const { events } = converse(PLAIN, [
      FIXED_NEWSTYLE,
      optionReply(
        OPT.GO,
        REP.INFO,
        hex`
          0003     | NBD_INFO_BLOCK_SIZE
          00000200 | minimum
          00001000 | preferred
          ffffffff | maximum
        `,
      ),
      optionReply(OPT.GO, REP.INFO, hex`0002 "the \xe9 disk"`),
      optionReply(OPT.GO, REP.INFO, INFO_EXPORT),
      optionReply(OPT.GO, REP.INFO, hex`0001 "canonical"`),
      optionReply(OPT.GO, REP.ACK),
    ]);
    expect(events[0]).toMatchObject({
      info: {
        blockSizes: { minimum: 512, preferred: 4096, maximum: 0xffffffff },
        description: 'the \ufffd disk',
        canonicalName: 'canonical',
      },
    });
  });

  it('may send unknown kinds of information ("NBD_REP_INFO": ignored)', () => {
    const unknown = optionReply(OPT.GO, REP.INFO, hex`7777 00*300`);
    const { events } = converse(PLAIN, [FIXED_NEWSTYLE, unknown, ...ACCEPTED]);
    expect(events[0]).toMatchObject({ type: 'ready' });
  });

  it('may repeat itself, but not contradict itself', () => {
    const again = optionReply(OPT.GO, REP.INFO, INFO_EXPORT);
    const other = optionReply(OPT.GO, REP.INFO, hex`0000 0000000000200000 0005`);
    expect(converse(PLAIN, [FIXED_NEWSTYLE, again, ...ACCEPTED]).events).toHaveLength(1);
    expect(converse(PLAIN, [FIXED_NEWSTYLE, other, ...ACCEPTED]).error?.message).toContain(
      'twice with different contents',
    );
  });

  it('gets NBD_OPT_EXPORT_NAME when it does not know NBD_OPT_GO', () => {
    const { sent, events } = converse(PLAIN, [
      FIXED_NEWSTYLE,
      optionReply(OPT.GO, REP.ERR_UNSUP),
      hex`
        0000000000100000 | size
        0003             | NBD_FLAG_HAS_FLAGS, NBD_FLAG_READ_ONLY
      `,
    ]);
    expect(sent[1]).toBe(optionRequest(OPT.EXPORT_NAME, toHex(hex`"disk"`)));
    expect(events[0]).toMatchObject({
      type: 'ready',
      info: { size: 1048576n, flags: 3, handshake: 'fixed-newstyle' },
    });
  });

  it('with 64-bit headers never gets NBD_OPT_EXPORT_NAME ("NBD_OPT_EXTENDED_HEADERS")', () => {
    const { error, sent } = converse({ ...GO, metaContexts: [] }, [
      FIXED_NEWSTYLE,
      optionReply(OPT.EXTENDED_HEADERS, REP.ACK),
      optionReply(OPT.GO, REP.ERR_UNSUP),
    ]);
    expect(error?.name).toBe('NbdProtocolError');
    expect(sent).toHaveLength(2);
  });

  it('sends 124 zeroes after NBD_OPT_EXPORT_NAME unless both sides left them out ("Client flags")', () => {
    const { sent, events } = converse(PLAIN, [
      hex`
        4e42444d41474943 | NBDMAGIC
        49484156454f5054 | IHAVEOPT
        0001             | NBD_FLAG_FIXED_NEWSTYLE
      `,
      optionReply(OPT.GO, REP.ERR_UNSUP),
      hex`0000000000100000 0001`,
      hex`00*124`,
    ]);
    expect(sent[0]).toBe(`00000001${GO_DISK}`);
    expect(sent[2]).toBe('');
    expect(events).toHaveLength(1);
  });

  it('may set unknown handshake flags, which the client does not answer ("Handshake flags")', () => {
    const { sent } = converse(PLAIN, [hex`"NBDMAGIC" "IHAVEOPT" fffd`]);
    expect(sent[0]).toBe(`00000001${GO_DISK}`);
  });
});

describe('newstyle server that is not fixed', () => {
  const NEWSTYLE = hex`
    4e42444d41474943 | NBDMAGIC
    49484156454f5054 | IHAVEOPT
    0000             | handshake flags
  `;

  it('gets no option but NBD_OPT_EXPORT_NAME ("NBD_OPT_EXPORT_NAME")', () => {
    const { sent, events } = converse(GO, [NEWSTYLE, hex`0000000000100000 0001 00*124`]);
    expect(sent).toEqual([`00000000${optionRequest(OPT.EXPORT_NAME, toHex(hex`"disk"`))}`, '']);
    expect(events[0]).toMatchObject({
      type: 'ready',
      info: { handshake: 'newstyle', structuredReplies: false },
    });
  });

  it('can leave out the zeroes, too', () => {
    const { sent, events } = converse(GO, [hex`"NBDMAGIC" "IHAVEOPT" 0002`, hex`0000000000100000 0001`]);
    expect(sent[0]?.slice(0, 8)).toBe('00000002');
    expect(events).toHaveLength(1);
  });

  it('that closes the connection may lack the export, and the error says so', () => {
    const { ended } = converse(GO, [NEWSTYLE]);
    expect(ended).toContain('perhaps it has no export "disk", or requires TLS');
  });
});

describe('oldstyle server', () => {
  const OLDSTYLE = hex`
    4e42444d41474943 | NBDMAGIC
    0000420281861253 | cliserv_magic
    0000000000100000 | size
    00000003         | flags: NBD_FLAG_HAS_FLAGS, NBD_FLAG_READ_ONLY
    00*124           | reserved
  `;
  const NAMELESS: HandshakeOptions = { goal: { kind: 'go', exportName: '' }, tls: 'disable' };

  it('gets no answer to its greeting, which has everything ("Oldstyle negotiation")', () => {
    const { sent, events } = converse(NAMELESS, [OLDSTYLE]);
    expect(sent).toEqual(['']);
    expect(events[0]).toMatchObject({
      type: 'ready',
      info: { size: 1048576n, flags: 3, handshake: 'oldstyle' },
    });
  });

  it('cannot have a named export', () => {
    expect(converse(GO, [OLDSTYLE]).error?.message).toContain('whose one export has no name');
  });

  it('must not set handshake flags ("Handshake flags")', () => {
    const flags = hex`"NBDMAGIC" 0000420281861253 0000000000100000 00010001 00*124`;
    expect(converse(NAMELESS, [flags]).error?.name).toBe('NbdProtocolError');
  });
});

describe('export names', () => {
  it.each([
    ['empty', '', ''],
    ['not ASCII', 'Größe', '4772c3b6c39f65'],
    ['4096 bytes long', 'x'.repeat(4096), '78'.repeat(4096)],
  ])('that are %s go out as UTF-8', (_, exportName, encoded) => {
    const { sent } = converse({ ...PLAIN, goal: { kind: 'go', exportName } }, [FIXED_NEWSTYLE]);
    const length = (encoded.length / 2).toString(16).padStart(8, '0');
    expect(sent[0]).toBe(CLIENT_FLAGS + optionRequest(OPT.GO, `${length}${encoded}0003000100020003`));
  });

  it.each([
    ['hold a NUL', 'a\0b', 'contains a NUL'],
    ['are longer than 4096 bytes', 'é'.repeat(2049), 'has 4098 bytes; at most 4096'],
    ['are half a surrogate pair', '\ud800', 'is not Unicode text'],
  ])('that %s fail before anything is sent ("Conventions")', (_, exportName, why) => {
    expect(() => converse({ ...PLAIN, goal: { kind: 'go', exportName } }, [])).toThrow(why);
  });

  it.each(['allocation', ':leaf', 'a b:c', 'x:\0', `x:${'y'.repeat(4095)}`])(
    'and metadata contexts need a namespace and 4096 bytes at most: %j',
    (query) => {
      expect(() => converse({ ...GO, metaContexts: [query] }, [])).toThrow('namespace:leaf-name');
    },
  );

  it('and metadata contexts number at most 1024', () => {
    expect(() => converse({ ...GO, metaContexts: Array(1025).fill('a:b') }, [])).toThrow(
      'the maximum is 1024',
    );
  });
});
