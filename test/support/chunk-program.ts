// A program for tests that stands in for the chunk server: it serves a disk of zeros on its inherited socket.
//
// It uses the built rooms of dist/chunks.

import { fileURLToPath } from 'node:url';

const built = (path: string): string =>
  JSON.stringify(fileURLToPath(new URL(`../../dist/chunks/serve/${path}`, import.meta.url)));

const PROGRAM = `
import { controlPath, startControl } from ${built('control.js')};
import { inheritedListener } from ${built('activation.js')};
import { RunningCommand } from ${built('run.js')};
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
  const counts = { memory: { used: 0, limit: 0 }, hits: 0, misses: 0, fetched: 0 };
  await startControl(controlPath(path), () => counts);
  await serveDisk(fd, disk);
  console.error('path ' + path + ' ' + Object.keys(process.env).filter((name) => name.startsWith('LISTEN_')));
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
`;

const RUN = `
const starting = RunningCommand.start(process.argv[1], 3);
process.on('SIGTERM', async () => (await starting).stop());
const running = await starting;
await serveDisk(running.listener, disk);
process.exit(await running.ended);
`;

const words = (program: string): string[] => [process.execPath, '--input-type=module', '-e', program];

/** The command line of the program. */
export const chunkProgram = (): string[] => words(`${PROGRAM}${SERVE}`);

/** The command line of one that runs a command for the shell, which takes the inherited socket instead. */
export const chunkProgramBelow = (command: string): string[] => [...words(`${PROGRAM}${RUN}`), command];
