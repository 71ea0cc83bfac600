// The trace of nbdkit's curl plugin, and what nbdfuse concludes from it.

import { describe, expect, it } from 'vitest';
import {
  conditionOf,
  disagreementOf,
  failureOf,
  flawOf,
  isTransient,
  WebTrace,
} from '../../../src/image/web.js';

/** The trace of a request and its answer. */
function exchange(request: string, answer: readonly string[], prefix = 'nbdkit: curl[1]: debug: '): string {
  const asked = `${prefix}C: ${request}\r\nHost: h\r\nAuthorization: Basic dTpw\r\n`;
  return asked + [...answer, ''].map((line) => `${prefix}S: ${line}\n`).join('');
}

const range = (first: number, last: number): string => `GET /d HTTP/1.1\r\nRange: bytes=${first}-${last}`;
const sent = (place: string): readonly string[] => [
  'HTTP/1.1 206 Partial Content',
  `Content-Range: bytes ${place}`,
];

function traceOf(...texts: readonly string[]): WebTrace {
  const trace = new WebTrace();
  for (const text of texts) for (const byte of Buffer.from(text)) trace.take(Buffer.of(byte));
  return trace;
}

const flaw = (text: string, size = 1000n): string | undefined =>
  traceOf(text)
    .exchanges.map((one) => flawOf(one, size))
    .find((why) => why !== undefined);

describe('answers to requests for a range', () => {
  it.each([
    ['the range', sent('100-200/1000')],
    ['the range without the byte that nbdkit does not need', sent('100-199/1000')],
    ['the range of a file of unknown length', sent('100-200/*')],
    ['a redirection', ['HTTP/1.1 302 Found', 'Location: /e']],
    ['a failure', ['HTTP/1.1 503 Service Unavailable']],
  ])('%s is no flaw', (_, answer) => {
    expect(flaw(exchange(range(100, 200), answer))).toBeUndefined();
  });

  it.each([
    ['the whole file', ['HTTP/1.1 200 OK'], 'with the whole file (status 200 OK)'],
    ['the whole file over HTTP/2', ['HTTP/2 200'], 'with the whole file (status 200)'],
    ['another range', sent('0-99/1000'), 'with "bytes 0-99/1000"'],
    ['a part of the range', sent('100-150/1000'), 'with "bytes 100-150/1000"'],
    ['more than the range', sent('100-999/1000'), 'with "bytes 100-999/1000"'],
    ['no Content-Range', ['HTTP/1.1 206 Partial Content'], 'with no Content-Range'],
    ['nothing', ['HTTP/1.1 204 No Content'], 'with status 204 No Content'],
    ['another size', sent('100-200/999'), 'it gives two sizes for the file, 1000 and 999 bytes'],
  ])('%s is a flaw', (_, answer, why) => {
    expect(flaw(exchange(range(100, 200), answer))).toContain(why);
  });

  it('the last answer counts after a redirection, and 100 Continue is none', () => {
    const whole = ['HTTP/1.1 100 Continue', '', 'HTTP/1.1 200 OK'];
    const text = exchange(range(1, 2), ['HTTP/1.1 302 Found']) + exchange(range(1, 2), whole);
    expect(flaw(text)).toContain('status 200 OK');
  });

  it('the form of the trace of newer versions of nbdkit is understood', () => {
    const text = exchange(range(1, 2), ['HTTP/2 200'], 'nbdkit: curl[2]: debug: conn 1 xfer 2: ');
    expect(flaw(text)).toContain('status 200');
  });

  it('other lines of libcurl are no answers', () => {
    const text =
      'nbdkit: curl[1]: debug: TLS: HTTP/1.1 200 OK\nnbdkit: curl[1]: debug: ALPN: server accepted h2\n';
    expect(flaw(exchange(range(100, 200), sent('100-200/1000')) + text)).toBeUndefined();
  });

  it('a HEAD, a request without a range, and a proxy are not judged', () => {
    for (const request of ['HEAD /d HTTP/1.1', 'GET /d HTTP/1.1', 'CONNECT h:443 HTTP/1.1'])
      expect(flaw(exchange(request, ['HTTP/1.1 200 OK']))).toBeUndefined();
  });
});

describe('answers together', () => {
  const tagged = (tag: string, more: readonly string[] = []): string =>
    exchange(range(0, 9), [...sent('0-9/1000'), `ETag: ${tag}`, ...more]);

  it('a strong ETag, else Last-Modified, becomes the condition of later requests', () => {
    expect(conditionOf(traceOf(tagged('"a"')).exchanges)).toBe('If-Match: "a"');
    const dated = ['Last-Modified: Fri, 27 Nov 2026 10:00:00 GMT'];
    expect(conditionOf(traceOf(tagged('W/"a"', dated)).exchanges)).toBe(
      'If-Unmodified-Since: Fri, 27 Nov 2026 10:00:00 GMT',
    );
    expect(conditionOf(traceOf(tagged('W/"a"')).exchanges)).toBeUndefined();
  });

  it('a redirection to mirrors allows no condition, and different ETags', () => {
    const moved = exchange(range(0, 9), ['HTTP/1.1 302 Found', 'Location: http://m/d']);
    const { exchanges } = traceOf(moved, tagged('"a"'), moved, tagged('"b"'));
    expect(conditionOf(exchanges)).toBeUndefined();
    expect(disagreementOf(exchanges)).toBeUndefined();
  });

  it('different ETags without one, and unknown encodings, are refused', () => {
    expect(disagreementOf(traceOf(tagged('"a"'), tagged('"a"')).exchanges)).toBeUndefined();
    expect(disagreementOf(traceOf(tagged('"a"'), tagged('"b"')).exchanges)).toContain('changes');
    expect(disagreementOf(traceOf(tagged('"a"', ['Content-Encoding: br'])).exchanges)).toContain('br');
    expect(disagreementOf(traceOf(tagged('"a"', ['Content-Encoding: x-gzip'])).exchanges)).toBeUndefined();
  });
});

describe('failures', () => {
  const error = (text: string): string => `nbdkit: curl[1]: error: ${text}\n`;
  const head = (status: string): string => exchange('HEAD /d HTTP/1.1', [`HTTP/1.1 ${status}`]);
  const size = 'problem doing HEAD request to fetch size of URL [http://u:p@h/d]: ';
  const refused = (code: number): string =>
    error(`${size}HTTP response code said error: The requested URL returned error: ${code}`);

  it.each([
    [head('403 Forbidden') + refused(403), 'refuses HEAD: use nbdkit 1.36 or newer', false],
    [
      head('404 Not Found') + refused(404),
      'nbdkit: The requested URL returned error: 404; check the URL',
      false,
    ],
    [head('503 Unavailable') + refused(503), 'try again later', true],
    [
      error(`${size}Couldn't resolve host name: x`),
      "nbdkit: Couldn't resolve host name: x; check the name",
      false,
    ],
    [error(`${size}SSL peer certificate was not OK`), 'update-ca-certificates', false],
    [
      head('200 OK') + error('could not get length of remote file [http://h/d], is the URL correct?'),
      'nbdkit: could not get length of remote file, is the URL correct?; download',
      false,
    ],
    ['nbdkit: curl[1]: debug: C: HEAD /d HTTP/1.1\r\n', 'nbdkit: it ended; check the URL', true],
    [exchange(range(0, 9), sent('0-9/1000')), 'fewer bytes', false],
  ])('%j', (text, message, transient) => {
    const trace = traceOf(text);
    expect(failureOf(trace, 'it ended')).toContain(message);
    expect(failureOf(trace, 'it ended')).not.toContain('u:p');
    expect(isTransient(trace)).toBe(transient);
  });

  it('an answer after the error of a busy server does not hide that it was busy', () => {
    expect(isTransient(traceOf(refused(503), head('200 OK')))).toBe(true);
    expect(isTransient(traceOf(refused(412), head('200 OK')))).toBe(false);
  });
});
