// The place of a mount: its mountpoint and its options.
//
// Used by start.ts, and by the command line before it looks at an image. A wrong mountpoint, pidfile or socket is then reported
// before anything is started.

import { checkDirectory, type Mountpoint, resolveMountpoint } from '../mount/mountpoint.js';
import { type FuseOptions, parseFuseOptions } from '../mount/options.js';
import { checkPidfile } from './pidfile.js';
import type { Report, Settings } from './settings.js';

/** See the file's head. The target of the mountpoint is open. */
export interface MountPlace {
  readonly mountpoint: Mountpoint;
  readonly options: FuseOptions;
}

/** Finds the place that the settings name; removes dead mounts there. @throws MountError, Error: one line each */
export async function findPlace(
  settings: Pick<Settings, 'mountpoint' | 'fuseOptions' | 'all' | 'partitions' | 'pidfile' | 'metrics'>,
  report: Pick<Report, 'line'>,
): Promise<MountPlace> {
  const options = parseFuseOptions(settings.fuseOptions);
  const mountpoint = await resolveMountpoint(settings.mountpoint);
  if (mountpoint.notice !== undefined) report.line(mountpoint.notice, 'info');
  try {
    if (settings.all) checkDirectory(mountpoint, '--all');
    if (settings.partitions) checkDirectory(mountpoint, '--partitions');
    // After the mountpoint: the pidfile may be on the dead mount that was there.
    if (settings.pidfile !== undefined) await checkPidfile(settings.pidfile);
    if (settings.metrics !== undefined)
      await (await import('./metrics/metrics-service.js')).checkMetrics(settings.metrics);
  } catch (error) {
    mountpoint.target.close();
    throw error;
  }
  return { mountpoint, options };
}
