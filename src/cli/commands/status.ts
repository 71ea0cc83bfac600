// --status and --list-mounts: show the status of one mount, or of all.
//
// Called by main.ts. Pure functions make the texts.

import { stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { currentPath, openPath, using } from '../../linux/path.js';
import { pathBytes } from '../../linux/path-text.js';
import { printable, printableJson } from '../../nbd/text.js';
import { expositionText, type MetricsFormat } from '../../session/metrics/exposition.js';
import { type MeasuredMount, mountFamilies } from '../../session/metrics/families.js';
import { statusText } from '../../session/status-text.js';
import { type Style, styleFor } from '../../session/style.js';
import { withFormerNames } from '../../worker/contract/former-names.js';
import type { Inspection } from '../arguments/arguments.js';
import { allMounts, type SeenMount } from './all-mounts.js';
import { type MountedFile, mountedFiles } from './mounted.js';
import { printableStatus } from './status-shape.js';

const jsonOf = ({ path, status }: MountedFile) => ({ path, ...withFormerNames(status) });

/** One object with the member `files`, on one line. */
export const statusAsJson = (files: readonly MountedFile[]): string =>
  `${printableJson(JSON.stringify({ files: files.map(jsonOf) }))}\n`;

/** The same for several mounts, indented. `unreachable` has the mounts without a status. */
function mountsAsJson(mounts: readonly SeenMount[]): string {
  const files = mounts.flatMap((one) => ('files' in one ? one.files : []));
  const unreachable = mounts.filter((one) => 'why' in one);
  const all = { files: files.map(jsonOf), ...(unreachable.length === 0 ? {} : { unreachable }) };
  return `${printableJson(JSON.stringify(all, null, 2))}\n`;
}

const unreachableText = (mountpoint: string, why: string): string =>
  `${printable(mountpoint)}  no status: ${printable(why)}\n`;

function mountsAsText(mounts: readonly SeenMount[], style: Style): string {
  const texts = mounts.flatMap((one) =>
    'why' in one
      ? [unreachableText(one.mountpoint, one.why)]
      : one.files.map(({ path, status }) => statusText(path, printableStatus(status), style)),
  );
  return texts.join('\n');
}

/** A line for each file. */
function mountsAsSummary(mounts: readonly SeenMount[]): string {
  const lines = mounts.flatMap((one) =>
    'why' in one
      ? [unreachableText(one.mountpoint, one.why)]
      : one.files.map(({ path, status: { state, server } }) => {
          const words = [path, state, server].map((word) => printable(word));
          return `${words.join('  ')}\n`;
        }),
  );
  return lines.join('');
}

/** The mount with absolute paths. A file is in its directory's mount, or is the mountpoint itself. */
async function absoluteMount(typed: string, files: readonly MountedFile[]): Promise<MeasuredMount> {
  const descriptor = await openPath(typed, { follow: true });
  const path = await using(descriptor, () => currentPath(descriptor));
  const [found, parent] = [await stat(pathBytes(path)), await stat(pathBytes(dirname(path)))];
  if (!found.isDirectory())
    return {
      mountpoint: found.dev === parent.dev ? dirname(path) : path,
      files: files.map(({ status }) => ({ path, status })),
    };
  const inMount = files.map(({ path: shown, status }) => ({ path: join(path, basename(shown)), status }));
  return { mountpoint: path, files: inMount };
}

async function lookAt(mountpoint: string | undefined): Promise<readonly SeenMount[]> {
  if (mountpoint === undefined) return allMounts();
  return [{ mountpoint, files: await mountedFiles(mountpoint) }];
}

async function metricsText(
  mountpoint: string | undefined,
  mounts: readonly SeenMount[],
  format: MetricsFormat,
): Promise<string> {
  const filesOf = (one: SeenMount) => ('files' in one ? one.files : undefined);
  const measured =
    mountpoint === undefined
      ? mounts.map((one) => ({ mountpoint: one.mountpoint, files: filesOf(one) }))
      : [
          await absoluteMount(
            mountpoint,
            mounts.flatMap((one) => filesOf(one) ?? []),
          ),
        ];
  return expositionText(mountFamilies(measured), format);
}

/** The text of --status and --list-mounts. @throws Error, one line */
export async function showStatus(
  { mountpoint, format }: Inspection,
  output: Pick<NodeJS.WriteStream, 'isTTY'>,
): Promise<string> {
  const mounts = await lookAt(mountpoint);
  switch (format) {
    case 'json':
      return mountsAsJson(mounts);
    case 'text':
      return mountsAsText(mounts, styleFor(output, process.env));
    case 'summary':
      return mountsAsSummary(mounts);
    default:
      return metricsText(mountpoint, mounts, format);
  }
}
