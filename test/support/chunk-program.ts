// A program for tests that stands in for the chunk server: it serves a disk of zeros on its inherited socket.
//
// It uses the built rooms of dist/chunks.

import { fileURLToPath } from 'node:url';

const built = (path: string): string =>
  JSON.stringify(fileURLToPath(new URL(`../../dist/chunks/serve/${path}`, import.meta.url)));

const PROGRAM = `
import { inheritedListener } from ${built('activation.js')};
import { serveDisk } from ${built('serve.js')};
const zeros = new Uint8Array(65536);
const connection = {
  properties: {
    size: 65536, readOnly: true, description: undefined,
    blockSizes: { minimum: 1, preferred: 4096, maximum: 65536 },
    canMultiConn: true, canFlush: false, canFua: false, canTrim: false, canZero: false, canFastZero: false,
    isRotational: false,
  },
  read: async (offset, length) => [zeros.subarray(0, length)],
  extents: () => undefined,
  onLost: () => undefined,
  close: () => undefined,
};
const disk = { connect: async () => connection };
`;

const SERVE = `
try {
  const { fd, path } = inheritedListener();
  await serveDisk(fd, disk);
  console.error('path ' + path + ' ' + Object.keys(process.env).filter((name) => name.startsWith('LISTEN_')));
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
`;

/** The command line of the program. */
export const chunkProgram = (): string[] => [
  process.execPath,
  '--input-type=module',
  '-e',
  `${PROGRAM}${SERVE}`,
];
