// Block sizes that break the protocol (proto.md, "Size constraints"), and those that serve instead. Pure.
//
// libnbd ignores such sizes, and QEMU refuses most of them. A size that may be obeyed is obeyed.

import { NBD_DEFAULT_MAXIMUM_PAYLOAD } from '../constants.js';
import type { BlockSizes } from '../export-info.js';

const MAX_MINIMUM = 65_536;
const DEFAULT_MINIMUM = 512;
const MIN_PREFERRED = 512;
const DEFAULT_PREFERRED = 4096;
/** Shorter payloads would make millions of requests of one. */
const MIN_MAXIMUM = 512;

function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value));
}

/** The largest power of two that is at most `value`, which is 1 or more. */
function powerUpTo(value: number): number {
  return 2 ** Math.floor(Math.log2(value));
}

/** The block sizes to use for those that a server advertises: the same, if they keep to the protocol. */
export function usableBlockSizes(advertised: BlockSizes): BlockSizes {
  const minimum = isPowerOfTwo(advertised.minimum)
    ? Math.min(advertised.minimum, MAX_MINIMUM)
    : DEFAULT_MINIMUM;
  const maximum =
    advertised.maximum < MIN_MAXIMUM ? NBD_DEFAULT_MAXIMUM_PAYLOAD : Math.max(advertised.maximum, minimum);
  const isSuitable =
    isPowerOfTwo(advertised.preferred) && advertised.preferred >= Math.max(minimum, MIN_PREFERRED);
  const preferred = isSuitable ? advertised.preferred : Math.max(minimum, DEFAULT_PREFERRED);
  return { minimum, preferred: Math.min(preferred, powerUpTo(maximum)), maximum };
}

const textOf = ({ minimum, preferred, maximum }: BlockSizes): string => `${minimum}/${preferred}/${maximum}`;

/** How the sizes in use differ from the advertised ones, in one line; undefined if they do not. */
export function describeBlockSizeChange(advertised: BlockSizes, used: BlockSizes): string | undefined {
  if (textOf(advertised) === textOf(used)) return undefined;
  return (
    `the server's block sizes ${textOf(advertised)} (minimum/preferred/maximum) break the NBD protocol; ` +
    `using ${textOf(used)}`
  );
}
