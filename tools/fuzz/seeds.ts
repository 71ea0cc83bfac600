// The seeds of the targets whose test cases are not recorded: usual URIs, and instructions for sessions
// without errors.

const URIS = [
  'nbd://example.com/disk',
  'nbds://alice@example.com:10810/disk?tls-type=x509&tls-certificates=/etc/pki&tls-hostname=h.example&tls-verify-peer=1',
  'nbds://h?tls-type=psk&tls-psk-file=/etc/keys.psk&tls-username=bob',
  'nbd+unix:///?socket=/run/nbd.sock',
  'nbds+unix:///%2Fdisk?socket=%00abstract',
  'nbd+vsock://2:4294967294/x',
  'nbd+ssh://me@there:2222/x?nbd-port=10810',
  'nbds+ssh://there//disk?socket=/run/nbd',
  'nbd://[2001:db8::1%25eth0]:1/a+b%2Bc?x-unknown=1&flag',
  'nbd://h/name%FF%C3',
  'NBD://localhost',
  '/tmp/socket',
  'nbd://-oProxyCommand=x/',
];

export function uriSeeds(): Uint8Array[] {
  return URIS.map((text) => Buffer.from(text));
}

/** One request of the kernel: see `ask` in targets/worker.ts. The 1 marks a request. */
function ask(opcode: number, length: number, at: number, ...more: readonly number[]): number[] {
  return [1, opcode, length, 0, at >> 8, at & 0xff, 0, ...more];
}

/** One chunk for the request with this number. */
function say(request: number, ...chunk: readonly number[]): number[] {
  return [0, chunk.length, request, ...chunk];
}

/** A chunk that is all of a READ, with flag DONE. */
const WHOLE = [0x10, 0, 7, 0, 0x42];
/** The two halves of a READ. */
const HALVES = [
  [0, 0, 3, 0, 0x41],
  [0x10, 4, 3, 0, 0x43],
] as const;
const NONE = [0x12, 0];
const EXTENTS = [0x13, 4, 0, 8, 0, 0, 8, 1, 0, 8, 2, 0, 8, 3, 0, 0];

/** Sessions in which each kind of request gets a correct reply, in each form. */
export function workerSeeds(): Uint8Array[] {
  const read = [...ask(0, 1, 1), ...say(0, ...WHOLE)];
  const large = [...ask(0, 3, 0), ...say(0, ...WHOLE)];
  const halves = [...ask(0, 1, 1), ...say(0, ...HALVES[0]), ...say(0, ...HALVES[1])];
  const write = [...ask(2, 1, 3, 0x33), ...say(0, ...NONE), ...ask(3, 0, 0), ...say(1, ...NONE)];
  const zero = [...ask(4, 1, 8, 8, 0, 0), ...say(0, ...NONE)];
  const seek = [...ask(5, 0, 0, 0, 0), ...say(0, ...EXTENTS)];
  const names = [
    ...ask(6, 0, 0, 4, 0x6e, 0x62, 0x64, 0),
    ...ask(7, 0, 0, 0),
    ...ask(10, 1, 0),
    ...ask(13, 0, 0, 9),
  ];
  const sessions = [read, large, halves, write, zero, seek, names, [...read, ...write, ...seek]];
  return sessions.flatMap((session) =>
    [0, 1, 2, 3].map((format) => Uint8Array.from([format, 0, 0, ...session])),
  );
}

/** Records of data, tickets, key updates and a close_notify, in each cipher suite. */
export function tlsSeeds(): Uint8Array[] {
  const session = [0, 50, 0x61, 2, 100, 0, 0, 20, 0x62, 3, 0, 0, 1, 0, 30, 0x63, 16, 9, 0x64, 7, 4, 0, 0, 0];
  return [0, 1, 2].map((suite) => Uint8Array.from([suite | (2 << 3), ...session]));
}
