// The trace of --verbose: one line a request of the kernel and one a command, with the specs' names.
//
// A request's number is the kernel's `unique`; the commands that were sent for it carry the same, and come
// before it, since it is answered last. What nobody has asked for (reading ahead, looking for holes, flushing
// in the background) has no number. Written by the worker straight to descriptor 2, since its thread has no
// event loop. Times are counted from the turn of the loop in which a request was received.

import { opcodeName } from '../../fuse/constants.js';
import { errnoName } from '../../linux/errno.js';
import { addressOf, libc } from '../../linux/libc.js';
import { jsonLine, type LogFields, type LogFormat } from '../../linux/log-line.js';
import { commandFlagNames, commandName } from '../../nbd/names.js';
import { printable, printableJson } from '../../nbd/text.js';
import type { FuseRequest, RequestTarget } from '../flight/fuse-request.js';
import type { NbdCommand } from '../flight/nbd-command.js';
import { toBigInt } from '../memory/u64.js';

const STDERR = 2;

/** What is told of a request or a command, in the order of the line. */
interface Entry {
  /** The kernel's number of the request; 0n: nobody has asked. */
  readonly request: bigint;
  readonly event: string;
  readonly fields: LogFields;
  /** 0, or what it failed with; undefined where there is no reply. */
  readonly errno?: number;
  readonly microseconds?: number;
  /** What the server said of a failure. */
  readonly text?: string;
}

const sinceThen = (then: number): number => Math.max(0, Math.round((performance.now() - then) * 1000));

const resultOf = (errno: number): string => (errno === 0 ? 'ok' : errnoName(errno));

function fieldText([name, value]: [string, unknown]): string {
  if (name === 'file') return printable(String(value));
  if (Array.isArray(value)) return value.join('|');
  return `${name} ${typeof value === 'string' ? `"${printable(value)}"` : value}`;
}

/** `#84 NBD_CMD_READ offset 0 length 4096 connection 0: ok, 61 us` */
function asText({ request, event, fields, errno, microseconds, text }: Entry): string {
  const told = Object.entries(fields).filter(([, value]) => value !== undefined);
  const head = [request === 0n ? 'own' : `#${request}`, event, ...told.map(fieldText)].join(' ');
  const result = errno === undefined ? '' : `: ${resultOf(errno)}`;
  const time = microseconds === undefined ? '' : `, ${microseconds} us`;
  const words = text === undefined ? '' : `, the server says "${printable(text)}"`;
  return `nbdfuse: ${head}${result}${time}${words}\n`;
}

function asJson({ request, event, fields, errno, microseconds, text }: Entry): string {
  return printableJson(
    jsonLine('trace', event, {
      request: request === 0n ? undefined : request,
      ...fields,
      result: errno === undefined ? undefined : resultOf(errno),
      us: microseconds,
      text: text === undefined ? undefined : printable(text),
    }),
  );
}

/** A request that needs no server. */
export interface LocalRequest {
  readonly unique: bigint;
  readonly opcode: number;
  readonly node: number;
  /** The name of a LOOKUP or GETXATTR. */
  readonly name: string | undefined;
  /** Milliseconds of the worker's clock. */
  readonly startedAt: number;
}

/** Writes lines; one instance a worker. */
export class Trace {
  readonly #format: (entry: Entry) => string;
  readonly #write: (line: string) => void;

  constructor(format: LogFormat, write: (line: string) => void = writeLine) {
    this.#format = format === 'json' ? asJson : asText;
    this.#write = write;
  }

  /** A request that the worker answered without the server. @param errno undefined: the request has no reply */
  request({ unique, opcode, node, name, startedAt }: LocalRequest, errno: number | undefined): void {
    const microseconds = errno === undefined ? undefined : sinceThen(startedAt);
    const fields = { node, name };
    this.#say({ request: unique, event: opcodeName(opcode), fields, errno, microseconds });
  }

  /** A request of the kernel that needed the server, over. */
  answer(request: FuseRequest, errno: number): void {
    this.#say({
      request: requestOf(request),
      event: opcodeName(request.opcode),
      fields: { file: fileOf(request.disk), ...placeOf(request) },
      errno,
      microseconds: sinceThen(request.startedAt),
    });
  }

  /** Who asked has been told EINTR; the request goes on for nobody. */
  interrupted(request: FuseRequest): void {
    const fields = { file: fileOf(request.disk), of: opcodeName(request.opcode) };
    this.#say({ request: requestOf(request), event: 'FUSE_INTERRUPT', fields });
  }

  /** A command that is over. */
  command(command: NbdCommand, errno: number): void {
    this.#say({
      ...whatOf(command, command.request?.disk),
      errno,
      microseconds: sinceThen(command.submittedAt),
    });
  }

  /** What a server said of a command that it refused. */
  serverError(disk: RequestTarget, command: NbdCommand, errno: number, text: string): void {
    if (text !== '') this.#say({ ...whatOf(command, disk), errno, text });
  }

  #say(entry: Entry): void {
    this.#write(this.#format(entry));
  }
}

function writeLine(line: string): void {
  const bytes = Buffer.from(line);
  libc.write(STDERR, addressOf(bytes), bytes.length);
}

const requestOf = (request: FuseRequest | undefined): bigint =>
  request === undefined ? 0n : toBigInt(request.uniqueHi, request.uniqueLo);

const fileOf = (disk: RequestTarget | undefined): string | undefined => disk?.node.name || undefined;

function placeOf({ about, offsetHi, offsetLo, length }: FuseRequest): LogFields {
  if (about !== undefined) return about;
  return length === 0 ? {} : { offset: toBigInt(offsetHi, offsetLo), length };
}

function whatOf(command: NbdCommand, disk: RequestTarget | undefined): Entry {
  const { request, type, offsetHi, offsetLo, length, flags, connection } = command;
  const place = length === 0 ? {} : { offset: toBigInt(offsetHi, offsetLo), length };
  const names = flags === 0 ? undefined : commandFlagNames(flags);
  return {
    request: requestOf(request),
    event: commandName(type),
    fields: { file: fileOf(disk), ...place, flags: names, connection: connection?.number },
  };
}
