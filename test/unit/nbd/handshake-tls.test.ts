// TLS in the handshake: it comes first, it cannot be stripped, and no earlier byte counts after it.
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
import { hex, toHex } from '../../support/hex.js';

const SECURE: HandshakeOptions = {
  goal: { kind: 'go', exportName: 'disk' },
  tls: 'require',
  metaContexts: [],
};
const CLEAR: HandshakeOptions = { ...SECURE, tls: 'disable' };
const ACKNOWLEDGED = optionReply(OPT.STARTTLS, REP.ACK);

describe('handshake with required TLS', () => {
  it('sends nothing but NBD_OPT_STARTTLS in the clear ("Client-side requirements")', () => {
    const { sent, events } = converse(SECURE, [FIXED_NEWSTYLE, ACKNOWLEDGED]);
    expect(sent).toEqual([`00000003${optionRequest(OPT.STARTTLS)}`, '']);
    expect(events).toEqual([{ type: 'starttls' }]);
  });

  it('negotiates headers and replies after NBD_OPT_STARTTLS, and sends that once', () => {
    const { sent, events } = converse(SECURE, [
      FIXED_NEWSTYLE,
      ACKNOWLEDGED,
      'tls',
      optionReply(OPT.EXTENDED_HEADERS, REP.ERR_UNSUP),
      optionReply(OPT.STRUCTURED_REPLY, REP.ACK),
      optionReply(OPT.GO, REP.INFO, INFO_EXPORT),
      optionReply(OPT.GO, REP.ACK),
    ]);
    expect(sent.slice(2, 4)).toEqual([
      optionRequest(OPT.EXTENDED_HEADERS),
      optionRequest(OPT.STRUCTURED_REPLY),
    ]);
    expect(sent.join('')).not.toContain(optionRequest(OPT.STARTTLS).repeat(2));
    expect(events.at(-1)).toMatchObject({ type: 'ready', info: { structuredReplies: true } });
  });

  it.each([
    ['does not know it', REP.ERR_UNSUP],
    ['forbids it', REP.ERR_POLICY],
    ['calls it invalid', REP.ERR_INVALID],
  ])('leaves a server that %s with NBD_OPT_ABORT, and continues nothing in the clear', (_, refusal) => {
    const { sent, error, abortBytes } = converse(SECURE, [
      FIXED_NEWSTYLE,
      optionReply(OPT.STARTTLS, refusal),
    ]);
    expect(error?.message).toMatch(/^cannot use TLS, and plain text is not allowed: /);
    expect(error).toMatchObject({ name: 'NbdServerError' });
    expect(sent).toHaveLength(1);
    expect(abortBytes).toBe(optionRequest(OPT.ABORT));
  });

  it('an oldstyle greeting cannot strip TLS', () => {
    const { sent, error, abortBytes } = converse(SECURE, [
      hex`"NBDMAGIC" 0000420281861253 0000000000100000 00000001 00*124`,
    ]);
    expect(error?.message).toContain('plain text is not allowed: the server speaks the oldstyle handshake');
    expect([sent, abortBytes]).toEqual([[], '']);
  });

  it('a newstyle greeting without fixed newstyle cannot strip TLS', () => {
    const { sent, error, abortBytes } = converse(SECURE, [hex`"NBDMAGIC" "IHAVEOPT" 0002`]);
    expect(error?.message).toContain('plain text is not allowed: the server speaks the newstyle handshake');
    expect([sent, abortBytes]).toEqual([[], '']);
  });

  it('bytes in the clear behind the acknowledgement are a breach, not part of the session', () => {
    const injected = hex`${ACKNOWLEDGED} ${optionReply(OPT.EXTENDED_HEADERS, REP.ACK)}`;
    const { events, error } = converse(SECURE, [FIXED_NEWSTYLE, injected]);
    expect(error?.name).toBe('NbdProtocolError');
    expect(error?.message).toMatch(/the server sent \d+ bytes before the TLS handshake/);
    expect(events.filter(({ type }) => type !== 'starttls')).toEqual([]);
  });

  it('bytes during the TLS handshake of the driver are a breach, too', () => {
    const handshake = new Handshake(SECURE);
    handshake.receive(FIXED_NEWSTYLE);
    handshake.receive(ACKNOWLEDGED);
    expect(() => handshake.receive(hex`00`)).toThrow('1 bytes before the TLS handshake');
  });

  it('a server that demands TLS again afterwards breaks the rules ("FORCEDTLS mode")', () => {
    const { error, abortBytes } = converse(SECURE, [
      FIXED_NEWSTYLE,
      ACKNOWLEDGED,
      'tls',
      optionReply(OPT.EXTENDED_HEADERS, REP.ERR_TLS_REQD),
    ]);
    expect(error).toMatchObject({ name: 'NbdProtocolError' });
    expect(abortBytes).toBe('');
  });

  it('a failed TLS handshake leaves nothing to send in the clear ("Client-side requirements")', () => {
    const { abortBytes, ended } = converse(SECURE, [FIXED_NEWSTYLE, ACKNOWLEDGED]);
    expect(abortBytes).toBe('');
    expect(ended).toBe('the server closed the connection before the TLS handshake');
  });
});

describe('handshake without TLS', () => {
  it.each([
    ['every option', OPT.EXTENDED_HEADERS, CLEAR],
    ['structured replies', OPT.STRUCTURED_REPLY, { ...CLEAR, extendedHeaders: false }],
    ['the export', OPT.GO, { ...CLEAR, extendedHeaders: false, structuredReplies: false }],
  ])(
    'reports the remedy where a server demands TLS for %s, and never upgrades the connection',
    (_, option, options) => {
      const { error, sent, abortBytes } = converse(options, [
        FIXED_NEWSTYLE,
        optionReply(option, REP.ERR_TLS_REQD),
      ]);
      expect(error?.message).toContain('the server requires TLS; use an nbds:// URI');
      expect(toHex(Buffer.from(sent.join(''), 'hex'))).not.toContain(optionRequest(OPT.STARTTLS));
      expect(abortBytes).toBe(optionRequest(OPT.ABORT));
    },
  );

  it('a server that demands TLS for the metadata contexts demands it for the export', () => {
    const { error } = converse({ ...CLEAR, extendedHeaders: false, metaContexts: ['base:allocation'] }, [
      FIXED_NEWSTYLE,
      optionReply(OPT.STRUCTURED_REPLY, REP.ACK),
      optionReply(OPT.SET_META_CONTEXT, REP.ERR_TLS_REQD),
    ]);
    expect(error?.message).toContain('cannot open export "disk": the server requires TLS');
  });
});
