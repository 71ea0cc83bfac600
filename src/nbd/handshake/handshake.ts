// The handshake, from the server's first byte to the transmission phase, without I/O.
//
// The caller passes received bytes and carries out the returned events in order. Pure: no socket, clock or Promise. It
// always knows how many bytes come next. Where none may come (before TLS, before the first request), any byte is a
// protocol violation. After an error the caller sends abort() and closes.

import { ECONNRESET, ENOENT, EOPNOTSUPP } from '../../constants/errno.js';
import {
  NBD_MAGIC,
  NBD_MAX_STRING,
  NBD_OLDSTYLE_MAGIC,
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_STARTTLS,
  NBD_OPTION_MAGIC,
  NBD_REP_ACK,
} from '../constants.js';
import { type NbdError, NbdProtocolError, NbdServerError } from '../errors.js';
import type { ExportInfo, ListedExport } from '../export-info.js';
import { optionName, optionReplyName } from '../names.js';
import { printable } from '../text.js';
import { Expectation } from '../transmission/expectation.js';
import { nameBytes, u32, WireReader } from '../wire.js';
import { ExportDetails } from './export-details.js';
import { connectionTerms, type HandshakeOptions, type Negotiation, startNegotiation } from './negotiation.js';
import {
  decodeOptionReplyHeader,
  encodeOption,
  isReplyError,
  OPTION_REPLY_HEADER,
} from './option-messages.js';
import { nextStep, refuseStep, type Step } from './option-steps.js';
import {
  decodeExportNameReply,
  decodeHandshakeFlags,
  decodeOldstyle,
  encodeDisconnect,
  OLDSTYLE_LENGTH,
  type PlainExport,
} from './plain-handshakes.js';

export type { HandshakeGoal, HandshakeOptions } from './negotiation.js';

/** Most bytes of all replies to one option. */
const MAX_OPTION_REPLIES_BYTES = 16 * 1024 * 1024;

const NO_BYTES = new Uint8Array(0);

/** A task or a result for the caller. */
export type HandshakeEvent =
  | { readonly type: 'send'; readonly bytes: Uint8Array }
  /** Upgrade the stream to TLS, then call tlsStarted(). */
  | { readonly type: 'starttls' }
  /** The transmission phase has begun; the stream is at a message boundary. */
  | { readonly type: 'ready'; readonly info: ExportInfo }
  /** NBD_OPT_ABORT or NBD_CMD_DISC is sent: close the stream. */
  | { readonly type: 'listed'; readonly exports: ListedExport[] }
  | { readonly type: 'described'; readonly info: ExportInfo }
  | { readonly type: 'contexts'; readonly names: string[] };

function tooOld(what: string): NbdServerError {
  const message = `cannot list ${what}: the server is too old to list them`;
  return new NbdServerError(message, { errno: EOPNOTSUPP });
}

/** The handshake of one connection. */
export class Handshake {
  readonly #n: Negotiation;
  readonly #expectation = new Expectation();
  #events: HandshakeEvent[] = [];
  /** Whether the handshake has ended, well or not. */
  #over = false;
  /** Whether the server waits for an option and knows NBD_OPT_ABORT. */
  #mayAbort = false;
  /** Number and bytes of the replies to the option in flight. */
  #replies = 0;
  #replyBytes = 0;

  /** @throws NbdError with EINVAL if the export name or a metadata context cannot be sent */
  constructor(options: HandshakeOptions) {
    this.#n = startNegotiation(options);
    this.#expectation.bytes('its greeting', 8, (bytes) => this.#greeting(bytes));
  }

  /**
   * Receives bytes of the server, any number at a time. Bytes after the end are dropped.
   * @throws NbdProtocolError if the server violates the protocol, NbdServerError if it refuses
   */
  receive(bytes: Uint8Array): HandshakeEvent[] {
    return this.#run(() => this.#expectation.receive(bytes));
  }

  /** Continues after a `starttls` event, when the stream is encrypted and the server is verified. */
  tlsStarted(): HandshakeEvent[] {
    this.#n.encrypted = true;
    return this.#run(() => this.#negotiate());
  }

  /**
   * The last message of a failed handshake: NBD_OPT_ABORT if the server waits for an option, otherwise empty (an option
   * is in flight, the server violated the protocol, or it knows no options).
   */
  abort(): Uint8Array {
    const bytes = this.#mayAbort ? encodeOption(NBD_OPT_ABORT, NO_BYTES) : NO_BYTES;
    this.#end(false);
    return bytes;
  }

  /** The error if the stream ends now; undefined if the handshake had ended before. */
  endOfStream(): NbdError | undefined {
    if (this.#over) return undefined;
    const message = `the server closed the connection before ${this.#expectation.awaited}`;
    this.#end(false);
    return new NbdServerError(message, { errno: ECONNRESET });
  }

  #run(action: () => void): HandshakeEvent[] {
    try {
      action();
    } catch (error) {
      // Events of this call stay unsent, so NBD_OPT_ABORT would overtake them.
      this.#end(this.#mayAbort && error instanceof NbdServerError && this.#events.length === 0);
      this.#events = [];
      throw error;
    }
    const events = this.#events;
    this.#events = [];
    return events;
  }

  #end(mayAbort: boolean): void {
    this.#over = true;
    this.#mayAbort = mayAbort;
    this.#expectation.nothing();
  }

  #send(bytes: Uint8Array): void {
    this.#events.push({ type: 'send', bytes });
  }

  #greeting(bytes: Uint8Array): void {
    if (new WireReader(bytes, 'the greeting').u64() !== NBD_MAGIC) {
      throw new NbdProtocolError(`this is not an NBD server: its first bytes are "${printable(bytes)}"`);
    }
    this.#expectation.bytes('its kind of handshake', 8, (magic) => this.#kindOfHandshake(magic));
  }

  #kindOfHandshake(bytes: Uint8Array): void {
    const magic = new WireReader(bytes, 'the greeting').u64();
    if (magic === NBD_OPTION_MAGIC) {
      this.#expectation.bytes('its handshake flags', 2, (flags) => this.#handshakeFlags(flags));
    } else if (magic === NBD_OLDSTYLE_MAGIC) {
      this.#n.style = 'oldstyle';
      this.#refusePlainText();
      this.#expectation.bytes('its size and flags', OLDSTYLE_LENGTH, (body) => this.#oldstyleExport(body));
    } else {
      throw new NbdProtocolError(`NBDMAGIC is followed by the unknown magic 0x${magic.toString(16)}`);
    }
  }

  /** A server, or an attacker in between, without TLS must not make us continue in plain text. */
  #refusePlainText(): void {
    if (this.#n.tls === 'disable') return;
    const message = `cannot use TLS, and plain text is not allowed: the server speaks the ${this.#n.style} handshake, which has no TLS`;
    throw new NbdServerError(message, { errno: EOPNOTSUPP });
  }

  #oldstyleExport(bytes: Uint8Array): void {
    const { goal } = this.#n;
    if (goal.kind === 'contexts') throw tooOld('metadata contexts');
    if (goal.kind !== 'list' && goal.exportName !== '') {
      const message = `cannot open export "${printable(goal.exportName, 256)}": the server speaks the oldstyle handshake, whose one export has no name`;
      throw new NbdServerError(message, { errno: ENOENT });
    }
    this.#enterTransmission(decodeOldstyle(bytes));
  }

  #handshakeFlags(bytes: Uint8Array): void {
    const { fixed, clientFlags, exportNameReplyLength } = decodeHandshakeFlags(bytes);
    if (!fixed) this.#refusePlainText();
    this.#n.exportNameReplyLength = exportNameReplyLength;
    this.#send(u32(clientFlags));
    if (!fixed) {
      this.#sendExportName();
      return;
    }
    this.#n.style = 'fixed-newstyle';
    this.#negotiate();
  }

  /** NBD_OPT_EXPORT_NAME: the only option of a server that is not fixed newstyle, and the last resort for others. */
  #sendExportName(): void {
    const { goal, exportNameReplyLength } = this.#n;
    if (goal.kind === 'list') throw tooOld('exports');
    if (goal.kind === 'contexts') throw tooOld('metadata contexts');
    this.#mayAbort = false;
    this.#send(encodeOption(NBD_OPT_EXPORT_NAME, nameBytes(goal.exportName)));
    const name = printable(goal.exportName, 256);
    const awaited = `its answer to NBD_OPT_EXPORT_NAME: perhaps it has no export "${name}", or requires TLS`;
    this.#expectation.bytes(awaited, exportNameReplyLength, (bytes) => {
      this.#enterTransmission(decodeExportNameReply(bytes));
    });
  }

  /** Ends the handshake with a server that entered the transmission phase without NBD_OPT_GO. */
  #enterTransmission({ size, flags }: PlainExport): void {
    const { goal } = this.#n;
    const name = goal.kind === 'list' ? '' : goal.exportName;
    const details = new ExportDetails();
    details.takeExport(size, flags);
    const info = details.finish(name, connectionTerms(this.#n));
    if (goal.kind === 'go') this.#ready(info);
    else if (goal.kind === 'info') this.#finish(encodeDisconnect(), { type: 'described', info });
    else this.#finish(encodeDisconnect(), { type: 'listed', exports: [{ name, info }] });
  }

  /** Sends the next option, or ends the negotiation when none is left. */
  #negotiate(): void {
    const n = this.#n;
    const step = nextStep(n);
    if (step !== undefined) {
      const request = encodeOption(step.option, step.begin(n));
      this.#replies = 0;
      this.#replyBytes = 0;
      this.#mayAbort = false;
      this.#send(request);
      this.#expectReply(step);
    } else if (n.goal.kind === 'contexts') {
      this.#finish(encodeOption(NBD_OPT_ABORT, NO_BYTES), { type: 'contexts', names: n.listedContexts });
    } else if (n.goal.kind === 'list') {
      this.#finish(encodeOption(NBD_OPT_ABORT, NO_BYTES), { type: 'listed', exports: n.exports });
    } else if (n.export === undefined) {
      this.#sendExportName();
    } else if (n.goal.kind === 'info') {
      this.#finish(encodeOption(NBD_OPT_ABORT, NO_BYTES), { type: 'described', info: n.export });
    } else {
      this.#ready(n.export);
    }
  }

  #ready(info: ExportInfo): void {
    this.#events.push({ type: 'ready', info });
    this.#expectation.silence('the first request');
  }

  #finish(lastBytes: Uint8Array, event: HandshakeEvent): void {
    this.#send(lastBytes);
    this.#events.push(event);
    this.#end(false);
  }

  #expectReply(step: Step): void {
    const awaited = `its reply to ${optionName(step.option)}`;
    this.#expectation.bytes(awaited, OPTION_REPLY_HEADER, (bytes) => {
      const { replyType, length } = decodeOptionReplyHeader(bytes, step.option);
      this.#expectation.bytes(awaited, length, (data) => this.#reply(step, replyType, data));
    });
  }

  #reply(step: Step, replyType: number, data: Uint8Array): void {
    const { option } = step;
    if (replyType === NBD_REP_ACK) {
      if (data.length > 0) throw new NbdProtocolError(`NBD_REP_ACK to ${optionName(option)} carries data`);
      step.acknowledged(this.#n);
      if (option === NBD_OPT_STARTTLS) {
        this.#events.push({ type: 'starttls' });
        this.#expectation.silence('the TLS handshake');
      } else this.#negotiate();
    } else if (isReplyError(replyType)) {
      const serverText = new TextDecoder().decode(data.subarray(0, NBD_MAX_STRING));
      this.#mayAbort = true;
      refuseStep(step, this.#n, { option, replyType, serverText });
      this.#negotiate();
    } else {
      this.#partialReply(step, replyType, data);
    }
  }

  #partialReply(step: Step, replyType: number, data: Uint8Array): void {
    const option = optionName(step.option);
    if (replyType !== step.replyType) {
      throw new NbdProtocolError(`the server answered ${option} with ${optionReplyName(replyType)}`);
    }
    this.#replies++;
    this.#replyBytes += OPTION_REPLY_HEADER + data.length;
    if (this.#replies > (step.maxReplies ?? 0) || this.#replyBytes > MAX_OPTION_REPLIES_BYTES) {
      throw new NbdProtocolError(`the server sent too many replies to ${option} (${this.#replies})`);
    }
    step.take(this.#n, data);
    this.#expectReply(step);
  }
}
