// The options of an image that contradict each other. Pure.
//
// The command line and the library have the same rules, and name the options differently.

import { type KeepRequest, wantsKept } from './keep-request.js';

/** The options that a rule looks at. */
interface Chosen extends KeepRequest {
  readonly share?: boolean | undefined;
  /** Whether writes go to an overlay. */
  readonly overlay?: boolean | undefined;
}

/**
 * Why these options cannot be used together; undefined when they can.
 * @param nameOf the name of an option, as the user knows it
 */
export function contradictionOf(
  { share = false, overlay = false, ...keep }: Chosen,
  nameOf: (option: keyof Chosen) => string,
): string | undefined {
  const { cacheFile, cacheDir, cacheSize } = keep;
  if (cacheFile !== undefined && cacheDir !== undefined)
    return `${nameOf('cacheFile')} and ${nameOf('cacheDir')} cannot be used together`;
  if (cacheSize !== undefined && cacheFile === undefined && cacheDir === undefined)
    return `${nameOf('cacheSize')} needs ${nameOf('cacheFile')} or ${nameOf('cacheDir')}`;
  if (share && overlay)
    return `${nameOf('share')} and ${nameOf('overlay')} cannot be used together: an overlay needs an image that does not change`;
  if (share && wantsKept(keep))
    return `${nameOf('share')} cannot be used with a cache: the image changes while another program writes to it`;
  return undefined;
}
