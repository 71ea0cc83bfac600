// The answers of a web server to nbdkit, from the trace of nbdkit's curl plugin (-v -D curl.verbose=1). Pure.
//
// The plugin looks neither at the status nor at Content-Range: a server that ignores ranges would give it the wrong
// bytes. It asks with libcurl, so that proxies, certificates and redirects are those of the mount.

/** A request, and the answer to it. */
export interface Exchange {
  readonly method: string;
  /** The first and last byte that the request names. */
  readonly range: ByteRange | undefined;
  /** The status and its words: `404 Not Found`; empty before the answer. */
  readonly status: string;
  /** The headers of the answer, by their names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
}

/** The first and last byte of a range. */
interface ByteRange {
  readonly first: bigint;
  readonly last: bigint;
}

/** Flags of nbdkit that write the trace to its standard error. */
export const TRACE_FLAGS: readonly string[] = ['-v', '-D', 'curl.verbose=1'];

/** Bytes of a line that are inspected. */
const LINE_LENGTH = 16_384;

interface OpenExchange {
  method: string;
  range: ByteRange | undefined;
  status: string;
  headers: Map<string, string>;
}

function rangeOf(pattern: RegExp, text: string | undefined): ByteRange | undefined {
  const found = pattern.exec(text ?? '');
  return found === null ? undefined : { first: BigInt(found[1]), last: BigInt(found[2]) };
}

/** Collects a trace as it arrives. */
export class WebTrace {
  /** The exchanges whose answers have begun, and the last one. */
  readonly exchanges: Exchange[] = [];
  /** nbdkit's own errors, without its prefix. */
  readonly errors: string[] = [];
  /** Whether the headers of the last answer are complete. */
  isComplete = false;
  #line = '';
  #last: OpenExchange | undefined;

  /** Takes bytes of nbdkit's standard error. */
  take(chunk: Buffer): void {
    const lines = (this.#line + chunk.toString('latin1')).split('\n');
    this.#line = (lines.pop() ?? '').slice(0, LINE_LENGTH);
    for (const line of lines) this.#takeLine(line.slice(0, LINE_LENGTH).replace(/\r$/, ''));
  }

  #takeLine(line: string): void {
    const error = /^nbdkit: (?:.*?: )?error: (.*)$/.exec(line);
    if (error !== null) this.errors.push(Buffer.from(error[1], 'latin1').toString());
    const marked = /^nbdkit: .*?debug: (?:.*? )?([CS]): (.*)$/.exec(line);
    if (marked?.[1] === 'C') this.#begin(marked[2]);
    else if (marked?.[1] === 'S') this.#answer(marked[2]);
    // Only the first line of a request has nbdkit's prefix.
    else if (this.#last?.status === '' && /^range:/i.test(line))
      this.#last.range = rangeOf(/bytes=(\d+)-(\d+)/, line);
  }

  #begin(line: string): void {
    const method = /^([A-Z]+) \S+ HTTP\//.exec(line)?.[1];
    if (method === undefined) return;
    this.#last = { method, range: undefined, status: '', headers: new Map() };
    this.exchanges.push(this.#last);
    this.isComplete = false;
  }

  #answer(line: string): void {
    if (this.#last === undefined) return;
    const status = /^HTTP\/\S+ (\d{3}.*)$/.exec(line)?.[1];
    if (status !== undefined) {
      this.#last.status = status.trim();
      this.#last.headers.clear();
      this.isComplete = false;
    }
    const header = /^([^:\s]+):\s*(.*)$/.exec(line);
    if (header !== null) this.#last.headers.set(header[1].toLowerCase(), header[2].trim());
    // An answer of the kind 100 Continue comes before the real one.
    if (line === '') this.isComplete = !this.#last.status.startsWith('1');
  }
}

/** Whether curl asks again after this answer: elsewhere, or with a name and a password. */
function isProvisional({ status, method }: Exchange): boolean {
  return method === 'CONNECT' || /^(3\d\d|401|407)/.test(status);
}

/**
 * Why the answer to a request for a range does not have the bytes of that range; undefined if it has them, fails, or
 * is no such answer.
 * @param size the size that the server has named; undefined when it is not known yet
 */
export function flawOf(exchange: Exchange, size?: bigint): string | undefined {
  const { method, range, status, headers } = exchange;
  if (method !== 'GET' || range === undefined || status === '' || isProvisional(exchange)) return undefined;
  if (/^[45]/.test(status)) return undefined;
  const asked = `bytes ${range.first} to ${range.last}`;
  if (/^200/.test(status)) return `it answers a request for ${asked} with the whole file (status ${status})`;
  if (!/^206/.test(status)) return `it answers a request for ${asked} with status ${status}`;
  const text = headers.get('content-range') ?? '';
  const sent = rangeOf(/^bytes (\d+)-(\d+)\//, text);
  // The plugin asks for one byte more than it needs, and the file may end before that.
  if (sent?.first !== range.first || sent.last > range.last || sent.last < range.last - 1n) {
    return `it answers a request for ${asked} with ${text === '' ? 'no Content-Range' : `"${text}"`}`;
  }
  const total = /\/(\d+)$/.exec(text)?.[1];
  if (size !== undefined && total !== undefined && BigInt(total) !== size)
    return `it gives two sizes for the file, ${size} and ${total} bytes`;
  return undefined;
}

/** Maximum characters of a version. */
const VERSION_LENGTH = 512;

/** Encodings that nbdfuse recognizes by the first bytes, or that change nothing. */
const KNOWN_ENCODING = /^(|identity|(x-)?gzip|zstd)$/i;

/** Why the answers cannot be the bytes of one file; undefined when they can. */
export function disagreementOf(exchanges: readonly Exchange[]): string | undefined {
  const answers = exchanges.filter((one) => /^20[06]/.test(one.status) && one.method !== 'CONNECT');
  const encoding = answers.map(({ headers }) => headers.get('content-encoding') ?? '');
  const odd = encoding.find((one) => !KNOWN_ENCODING.test(one));
  if (odd !== undefined) return `it sends the file in another encoding (Content-Encoding: ${odd})`;
  // After a redirection each answer may come from another mirror.
  if (exchanges.some(({ status }) => status.startsWith('3'))) return undefined;
  for (const name of ['etag', 'last-modified']) {
    const values = new Set(answers.map(({ headers }) => headers.get(name)));
    if (values.size > 1) return 'the file changes while nbdfuse reads it';
  }
  return undefined;
}

/** A header that makes the server refuse a request when the file has changed; undefined when there is no safe one. */
export function conditionOf(exchanges: readonly Exchange[]): string | undefined {
  const last = exchanges.at(-1);
  if (last === undefined || exchanges.some(({ status }) => status.startsWith('3'))) return undefined;
  const [tag = '', date = ''] = ['etag', 'last-modified'].map((name) => last.headers.get(name));
  return conditionFor(tag) ?? conditionFor(date);
}

/** The same for a version of the file; undefined when it is no strong tag and no date. */
export function conditionFor(version: string): string | undefined {
  if (/^"[\x21\x23-\x7e]*"$/.test(version)) return `If-Match: ${version}`;
  return /^\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT$/.test(version)
    ? `If-Unmodified-Since: ${version}`
    : undefined;
}

/**
 * The text that changes with the file: the tag or the date of the last answer, empty where the server gives neither. Mirrors that
 * a server redirects to have one date, and maybe different tags.
 */
export function versionOf(exchanges: readonly Exchange[]): string {
  const headers = exchanges.at(-1)?.headers;
  const tag = headers?.get('etag') ?? '';
  const date = headers?.get('last-modified') ?? '';
  const isRedirected = exchanges.some(({ status }) => status.startsWith('3'));
  return (isRedirected ? date || tag : tag || date).slice(0, VERSION_LENGTH);
}

const NO_EXCHANGE: Exchange = { method: '', status: '', range: undefined, headers: new Map() };

/** The next step for a status, by its first matching pattern. */
const STATUS_ADVICE: readonly (readonly [RegExp, string])[] = [
  [/^401/, 'write a user and a password before the host, USER:PASSWORD@HOST'],
  [/^403/, 'check the URL and its token, or whether you may read the file'],
  [/^407/, 'the proxy in http_proxy or https_proxy wants a password'],
  [/^412/, 'the file has changed: mount it again'],
  [/^(408|425|429|5\d\d)/, 'try again later'],
];

/** Words of libcurl for a connection that ended in the middle of an answer. */
const BROKEN = /empty reply|reset|closed|timed out|partial|recv failure/i;

const WORD_ADVICE: readonly (readonly [RegExp, string])[] = [
  [/resolve host/i, 'check the name of the host'],
  [/resolve proxy/i, 'check http_proxy and https_proxy'],
  [/connect to server|failed to connect/i, 'is the web server running, and on this port?'],
  [/certificate/i, 'a certificate authority of your own belongs into the system (update-ca-certificates)'],
  [BROKEN, 'try again later'],
  [/access denied|login/i, 'check the user and the password'],
];

/** The advice for a server whose files cannot be read in parts. */
export const DOWNLOAD = 'download the file (curl -O), and mount that';

function adviceFor({ method, status }: Exchange, words: string): string {
  // Nginx and others answer 405 or 501 to HEAD, and a presigned URL 403.
  if (method === 'HEAD' && /^(400|403|405|501)/.test(status))
    return `a URL presigned for GET refuses HEAD: use nbdkit 1.36 or newer, or ${DOWNLOAD}`;
  if (/^20|^416/.test(status)) return DOWNLOAD;
  const found =
    STATUS_ADVICE.find(([pattern]) => pattern.test(status)) ??
    WORD_ADVICE.find(([pattern]) => pattern.test(words));
  return found?.[1] ?? 'check the URL';
}

/** nbdkit's words for its last failure, without the URL, which it repeats in brackets. */
function wordsOf({ errors }: WebTrace, failure: string): string {
  const words = (errors.at(-1) ?? failure)
    .replace(/^(problem doing|pread: curl_easy_perform: ).*?(\]: |: )/, '')
    .replace(/ \[[a-z]+:\/\/.*\]/, '')
    .replace('HTTP response code said error: ', '');
  return words === '' ? failure : words;
}

/** Statuses of servers that may answer later. */
const BUSY = /^(408|425|429|500|502|503|504)/;

/** Whether a failure may be over soon, so that asking again is useful. */
export function isTransient(trace: WebTrace): boolean {
  const last = trace.exchanges.at(-1);
  if (last === undefined) return false;
  const words = wordsOf(trace, '');
  // nbdkit may have asked once more since its error, and have got an answer.
  const [, status = ''] = /\berror: (\d{3})$/.exec(words) ?? [];
  if (BUSY.test(status)) return true;
  if (/^2/.test(last.status)) return BROKEN.test(words);
  return last.status === '' || BUSY.test(last.status);
}

/** Why nbdkit could not read a file on a web server, and the next step; `failure` describes how nbdkit ended. */
export function failureOf(trace: WebTrace, failure: string): string {
  const last = trace.exchanges.at(-1) ?? NO_EXCHANGE;
  // nbdkit aborts when an answer is shorter than the range that it names.
  if (last.status.startsWith('206') && trace.errors.length === 0)
    return `the web server sends fewer bytes than a request for a range needs; nbdkit: ${failure}; ${DOWNLOAD}`;
  const words = wordsOf(trace, failure);
  const answer = last.status === '' ? '' : `the web server answers ${last.method} with ${last.status}; `;
  return `${answer}nbdkit: ${words}; ${adviceFor(last, words)}`;
}
