// The chunk server: a program of nbdfuse that decodes and keeps the chunks of an image, as a child that takes its socket
// by socket activation.
//
// Used by src/image, which makes its command line, and by the files of this directory, which know its child.

import { fileURLToPath } from 'node:url';

/** The script of the chunk server. */
export const CHUNK_SERVER = fileURLToPath(new URL('../../bin/nbdfuse-chunks', import.meta.url));

/** The name of the chunk server, for messages. */
export const CHUNK_SERVER_NAME = 'nbdfuse-chunks';

/** The suffix that the path of its control socket adds to that of its listening socket. */
export const CONTROL_SUFFIX = '.control';

/** The first words of its command line: with the node that runs now, since there may be none in PATH. */
export const CHUNK_SERVER_WORDS: readonly string[] = [process.execPath, CHUNK_SERVER];

/** The words of the chunk server in a command line, from its first option on; undefined where there is none. */
export function chunkServerOptions(argv: readonly string[]): readonly string[] | undefined {
  const at = argv.findIndex((word) => word.replace(/^arg=/, '') === CHUNK_SERVER);
  return at < 0 ? undefined : argv.slice(at + 1);
}

/** Whether `argv` starts a chunk server on top of an NBD server that goes on when the chunk server ends. */
export function isRelay(argv: readonly string[]): boolean {
  const options = chunkServerOptions(argv) ?? [];
  const end = options.indexOf('--');
  return options.slice(0, end < 0 ? undefined : end).some((word) => word.startsWith('--nbd='));
}
