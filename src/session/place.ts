// The place of a mount: its mountpoint and its options.
//
// Used by start.ts, and by the command line before it looks at an image, which then reports a wrong mountpoint first.

import { checkDirectory, type Mountpoint, resolveMountpoint } from '../mount/mountpoint.js';
import { type FuseOptions, parseFuseOptions } from '../mount/options.js';
import type { Report, Settings } from './settings.js';

/** See the file's head. The target of the mountpoint is open. */
export interface MountPlace {
  readonly mountpoint: Mountpoint;
  readonly options: FuseOptions;
}

/** Finds the place that the settings name; removes dead mounts there. @throws MountError */
export async function findPlace(
  settings: Pick<Settings, 'mountpoint' | 'fuseOptions' | 'all' | 'partitions'>,
  report: Pick<Report, 'line'>,
): Promise<MountPlace> {
  const options = parseFuseOptions(settings.fuseOptions);
  const mountpoint = await resolveMountpoint(settings.mountpoint);
  if (mountpoint.notice !== undefined) report.line(mountpoint.notice, 'info');
  try {
    if (settings.all) checkDirectory(mountpoint, '--all');
    if (settings.partitions) checkDirectory(mountpoint, '--partitions');
  } catch (error) {
    mountpoint.target.close();
    throw error;
  }
  return { mountpoint, options };
}
