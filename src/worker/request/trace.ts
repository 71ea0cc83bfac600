// The trace of --verbose: one line a request of the kernel and one a command, with the names of the specifications.
//
// Commands carry the number of their request, the kernel's `unique`, and precede its line. Internal commands
// (read-ahead, searches for holes, background FLUSHes) have no number. JSON has former names too: `us`, `of`. The worker has no event loop, so it writes to
// descriptor 2 itself. Times count from the turn of the loop that received the request.

import { errnoName } from '../../constants/errno-names.js';
import { opcodeName } from '../../fuse/constants.js';
import { addressOf, libc } from '../../linux/libc.js';
import { jsonLine, type LogFields, type LogFormat } from '../../linux/log-line.js';
import { commandFlagNames, commandName } from '../../nbd/names.js';
import { printable, printableJson } from '../../nbd/text.js';
import type { Clock, System } from '../device/system.js';
import type { FuseRequest, RequestTarget } from '../flight/fuse-request.js';
import type { NbdCommand } from '../flight/nbd-command.js';
import { toBigInt } from '../memory/u64.js';

const STDERR = 2;

/** One line: the fields in their order. */
interface Entry {
  /** The kernel's number of the request; 0n: internal. */
  readonly request: bigint;
  readonly event: string;
  readonly fields: LogFields;
  /** The result; undefined where there is no reply. */
  readonly errno?: number;
  readonly microseconds?: number;
  /** The server's text about a failure. */
  readonly text?: string;
}

const resultOf = (errno: number): string => (errno === 0 ? 'ok' : errnoName(errno));

function fieldText([name, value]: [string, unknown]): string {
  if (name === 'file') return printable(String(value));
  if (Array.isArray(value)) return value.join('|');
  return `${name} ${typeof value === 'string' ? `"${printable(value)}"` : value}`;
}

/** `#84 NBD_CMD_READ offset 0 length 4096 connection 0: ok, 61 us` */
function asText({ request, event, fields, errno, microseconds, text }: Entry): string {
  const shown = Object.entries(fields).filter(([, value]) => value !== undefined);
  const head = [request === 0n ? 'internal' : `#${request}`, event, ...shown.map(fieldText)].join(' ');
  const result = errno === undefined ? '' : `: ${resultOf(errno)}`;
  const time = microseconds === undefined ? '' : `, ${microseconds} us`;
  const words = text === undefined ? '' : `, the server says "${printable(text)}"`;
  return `nbdfuse: ${head}${result}${time}${words}\n`;
}

function asJson({ request, event, fields, errno, microseconds, text }: Entry, now: Date): string {
  return printableJson(
    jsonLine(
      'trace',
      event,
      {
        ...(request === 0n ? { internal: true } : { request }),
        ...fields,
        result: errno === undefined ? undefined : resultOf(errno),
        microseconds,
        us: microseconds,
        of: fields.interrupted,
        text: text === undefined ? undefined : printable(text),
      },
      now,
    ),
  );
}

/** A request that needs no server. */
export interface LocalRequest {
  readonly unique: bigint;
  readonly opcode: number;
  readonly node: number;
  /** The name of a LOOKUP or GETXATTR. */
  readonly name: string | undefined;
  /** Time of arrival, in milliseconds of the worker's clock. */
  readonly startedAt: number;
}

/** Writes the trace of a worker. */
export class Trace {
  readonly #format: (entry: Entry) => string;
  readonly #clock: Clock;
  readonly #write: (line: string) => void;

  constructor(
    format: LogFormat,
    { clock, wallClock }: Pick<System, 'clock' | 'wallClock'>,
    write: (line: string) => void = writeLine,
  ) {
    this.#format = format === 'json' ? (entry) => asJson(entry, new Date(wallClock.now())) : asText;
    this.#clock = clock;
    this.#write = write;
  }

  /** Writes a request that the worker answered without the server. @param errno undefined: it has no reply */
  request({ unique, opcode, node, name, startedAt }: LocalRequest, errno: number | undefined): void {
    const microseconds = errno === undefined ? undefined : this.#since(startedAt);
    const fields = { node, name };
    this.#say({ request: unique, event: opcodeName(opcode), fields, errno, microseconds });
  }

  /** Writes a request that needed the server and has ended. */
  answer(request: FuseRequest, errno: number): void {
    this.#say({
      request: requestOf(request),
      event: opcodeName(request.opcode),
      fields: { file: fileOf(request.disk), ...placeOf(request) },
      errno,
      microseconds: this.#since(request.startedAt),
    });
  }

  /** Writes that the requester got EINTR. The request continues without a requester. */
  interrupted(request: FuseRequest): void {
    const fields = { file: fileOf(request.disk), interrupted: opcodeName(request.opcode) };
    this.#say({ request: requestOf(request), event: 'FUSE_INTERRUPT', fields });
  }

  /** Writes a command that has ended. */
  command(command: NbdCommand, errno: number): void {
    this.#say({
      ...whatOf(command, command.request?.disk),
      errno,
      microseconds: this.#since(command.submittedAt),
    });
  }

  /** Writes the server's text about a command that it has failed. */
  serverError(disk: RequestTarget, command: NbdCommand, errno: number, text: string): void {
    if (text !== '') this.#say({ ...whatOf(command, disk), errno, text });
  }

  /** Microseconds since a time of the worker's clock. */
  #since(then: number): number {
    return Math.max(0, Math.round((this.#clock.now() - then) * 1000));
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
