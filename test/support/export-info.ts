// The result of a handshake with a server without special features: for tests without a handshake.

import { NBD_FLAG_HAS_FLAGS } from '../../src/nbd/constants.js';
import type { ExportInfo } from '../../src/nbd/export-info.js';

/** The default export: 1 MiB, structured replies, nothing else. */
export const PLAIN_EXPORT: ExportInfo = {
  name: '',
  size: 1_048_576n,
  flags: NBD_FLAG_HAS_FLAGS,
  blockSizes: undefined,
  description: undefined,
  canonicalName: undefined,
  structuredReplies: true,
  extendedHeaders: false,
  metaContexts: [],
  handshake: 'fixed-newstyle',
};
