// Readable byte vectors: hexadecimal on the left, field names in the margin.
//
// Used by tests of encodings. Knows no protocol, so that expected bytes never come from the code under test.

/**
 * Bytes from lines of `BYTES | description`. BYTES are groups of hexadecimal digits (spaces are free),
 * `"text"` for ASCII, and `00*124` for a repeated byte. Values put in with `${}` are bytes, or text in UTF-8.
 * A line may be without a margin.
 */
export function hex(strings: TemplateStringsArray, ...values: readonly (Uint8Array | string)[]): Uint8Array {
  let text = strings[0] ?? '';
  values.forEach((value, i) => {
    text += ` ${Buffer.from(value).toString('hex')} ${strings[i + 1] ?? ''}`;
  });
  return new Uint8Array(Buffer.concat(text.split('\n').map(lineBytes)));
}

function lineBytes(line: string): Buffer {
  const [fields = ''] = line.split('|');
  const parts: Buffer[] = [];
  for (const token of fields.match(/"[^"]*"|\S+/g) ?? []) parts.push(tokenBytes(token));
  return Buffer.concat(parts);
}

function tokenBytes(token: string): Buffer {
  if (token.startsWith('"')) return Buffer.from(token.slice(1, -1), 'latin1');
  const repeated = /^([0-9a-f]{2})\*(\d+)$/i.exec(token);
  if (repeated !== null) return Buffer.alloc(Number(repeated[2]), Number.parseInt(repeated[1] ?? '', 16));
  if (!/^([0-9a-f]{2})+$/i.test(token)) throw new Error(`not bytes: ${token}`);
  return Buffer.from(token, 'hex');
}

/** The bytes in hexadecimal, for comparing and for messages. */
export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
