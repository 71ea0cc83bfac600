// Rules of doc/proto.md for the client's side of the handshake, each with its section.

import fc from 'fast-check';
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
  type ScriptStep,
} from '../../support/handshake-pair.js';
import { hex } from '../../support/hex.js';

const GO: HandshakeOptions = { goal: { kind: 'go', exportName: 'disk' }, tls: 'disable' };
const IHAVEOPT = '49484156454f5054';

/** The options in what a client sent, in order, with their data. */
function optionsIn(sent: readonly string[]): { option: string; data: string }[] {
  const found = [];
  let text = sent.join('').slice(8);
  while (text.startsWith(IHAVEOPT)) {
    const length = Number.parseInt(text.slice(24, 32), 16) * 2;
    found.push({ option: text.slice(16, 24), data: text.slice(32, 32 + length) });
    text = text.slice(32 + length);
  }
  expect(text).toBe('');
  return found;
}

/** Final replies to the options of a whole handshake, refused or granted. */
const answers = (extended: boolean, structured: boolean, contexts: boolean): ScriptStep[] => {
  const ack = (option: string, yes: boolean) => optionReply(option, yes ? REP.ACK : REP.ERR_UNSUP);
  return [
    FIXED_NEWSTYLE,
    ack(OPT.EXTENDED_HEADERS, extended),
    ...(extended ? [] : [ack(OPT.STRUCTURED_REPLY, structured)]),
    ...(extended || structured ? [ack(OPT.SET_META_CONTEXT, contexts)] : []),
    optionReply(OPT.GO, REP.INFO, INFO_EXPORT),
    optionReply(OPT.GO, REP.ACK),
  ];
};

describe('handshake rules, for all grants of a server', () => {
  const grants = fc.tuple(fc.boolean(), fc.boolean(), fc.boolean());

  it('no option goes out before the final reply to the one before ("Fixed newstyle negotiation")', () => {
    fc.assert(
      fc.property(grants, (given) => {
        const { sent, events } = converse(GO, answers(...given));
        // One option a final reply, none with a partial one, nothing after the last.
        for (const step of sent) expect(step.split(IHAVEOPT).length).toBeLessThanOrEqual(2);
        expect(sent.at(-1)).toBe('');
        expect(sent.at(-2)).toBe('');
        expect(events.at(-1)?.type).toBe('ready');
      }),
    );
  });

  it('no option is sent twice ("Fixed newstyle negotiation": state is set once)', () => {
    fc.assert(
      fc.property(grants, (given) => {
        const names = optionsIn(converse(GO, answers(...given)).sent).map(({ option }) => option);
        expect(new Set(names).size).toBe(names.length);
      }),
    );
  });

  it('metadata contexts follow structured replies or extended headers only ("NBD_OPT_SET_META_CONTEXT")', () => {
    fc.assert(
      fc.property(grants, ([extended, structured, contexts]) => {
        const names = optionsIn(converse(GO, answers(extended, structured, contexts)).sent).map(
          ({ option }) => option,
        );
        expect(names.includes(OPT.SET_META_CONTEXT)).toBe(extended || structured);
        expect(names.includes(OPT.STRUCTURED_REPLY)).toBe(!extended);
      }),
    );
  });

  it('the contexts are of the export that is opened, under the same name ("NBD_CMD_BLOCK_STATUS")', () => {
    const options = optionsIn(converse(GO, answers(true, false, true)).sent);
    const nameOf = (option: string): string | undefined =>
      options.find((one) => one.option === option)?.data.slice(0, 16);
    expect(nameOf(OPT.SET_META_CONTEXT)).toBe('000000046469736b');
    expect(nameOf(OPT.GO)).toBe(nameOf(OPT.SET_META_CONTEXT));
  });
});

it('handshake rules: options without data have none ("NBD_OPT_ABORT", "NBD_OPT_LIST", "NBD_OPT_STARTTLS", "NBD_OPT_STRUCTURED_REPLY")', () => {
  const list: HandshakeOptions = { goal: { kind: 'list' }, tls: 'require' };
  const { sent, abortBytes } = converse(list, [
    FIXED_NEWSTYLE,
    optionReply(OPT.STARTTLS, REP.ACK),
    'tls',
    optionReply(OPT.EXTENDED_HEADERS, REP.ERR_UNSUP),
    optionReply(OPT.STRUCTURED_REPLY, REP.ACK),
    optionReply(OPT.LIST, REP.ERR_POLICY),
  ]);
  expect(optionsIn(sent)).toEqual(
    [OPT.STARTTLS, OPT.EXTENDED_HEADERS, OPT.STRUCTURED_REPLY, OPT.LIST].map((option) => ({
      option,
      data: '',
    })),
  );
  expect(abortBytes).toBe(optionRequest(OPT.ABORT));
});

it('handshake rules: NBD_OPT_GO requests the block sizes, and no piece of information twice ("NBD_OPT_INFO and NBD_OPT_GO")', () => {
  const options = optionsIn(converse(GO, answers(false, false, false)).sent);
  const data = options.find(({ option }) => option === OPT.GO)?.data ?? '';
  const wanted = data.slice(16 + 4).match(/.{4}/g) ?? [];
  expect(Number.parseInt(data.slice(16, 20), 16)).toBe(wanted.length);
  expect(wanted).toContain('0003');
  expect(new Set(wanted).size).toBe(wanted.length);
});

it('handshake rules: a client with TLS sends NBD_OPT_STARTTLS first, and all other options behind it ("Client-side requirements")', () => {
  const secure: HandshakeOptions = { ...GO, tls: 'require' };
  const before = converse(secure, [FIXED_NEWSTYLE]);
  expect(optionsIn(before.sent).map(({ option }) => option)).toEqual([OPT.STARTTLS]);
  const { sent } = converse(secure, [
    FIXED_NEWSTYLE,
    optionReply(OPT.STARTTLS, REP.ACK),
    'tls',
    ...answers(true, false, true).slice(1),
  ]);
  expect(optionsIn(sent).map(({ option }) => option)).toEqual([
    OPT.STARTTLS,
    OPT.EXTENDED_HEADERS,
    OPT.SET_META_CONTEXT,
    OPT.GO,
  ]);
});

it('handshake rules: NBD_OPT_STARTTLS is not sent to a server without fixed newstyle ("Client-side requirements")', () => {
  const { sent, error } = converse({ ...GO, tls: 'require' }, [hex`"NBDMAGIC" "IHAVEOPT" 0000`]);
  expect(sent.join('')).toBe('');
  expect(error?.message).toContain('plain text is not allowed');
});
