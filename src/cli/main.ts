// The program: parses the command line and runs the request.
//
// Called by bin/nbdfuse. Loads only the modules that the request needs, since the user waits from start to ready. Sets
// the exit status: 0 after an orderly unmount or an answered question, else 1.

import { readFileSync } from 'node:fs';
import type { Worker } from 'node:worker_threads';
import { type KeepRequest, wantsKept } from '../image/keep-request.js';
import type { ImageRequest, PreparedImage } from '../image/prepare.js';
import { isRemote } from '../image/scheme.js';
import { titleWithoutSecrets } from '../nbd/secrets.js';
import type { MountPlace } from '../session/place.js';
import type { ProcessHooks } from '../session/process.js';
import type { Report, Settings } from '../session/settings.js';
import type { NbdServer } from '../transport/server.js';
import { dismissWorker, spawnWorker } from '../worker/spawn.js';
import {
  type Listing,
  type MountSettings,
  parseArguments,
  type Question,
  type Request,
  type Watch,
} from './arguments/arguments.js';
import { exactWords, isDoubtful } from './arguments/exact-words.js';
import { isDirectoryDeleted } from './current-directory.js';
import { takeOrder } from './daemon-order.js';
import { UsageError } from './errors.js';
import { LogTarget } from './log-target.js';
import { plainText } from './plain-text.js';
import { createReport, earlyReport } from './report.js';
import { announceLater, announceServer } from './waiting.js';

async function answer(kind: Question): Promise<string> {
  if (kind === 'fuse-help') return (await import('../mount/options.js')).fuseOptionsHelp();
  if (kind === 'version') return (await import('../session/version.js')).versionText();
  const help = await import('./arguments/help.js');
  switch (kind) {
    case 'help':
      return help.helpText();
    case 'long-options':
      return help.longOptionsText();
    default:
      return help.shortOptionsText();
  }
}

/** The mount to make. The server of an image is chosen later. */
type Mounting =
  | { readonly settings: Settings; readonly keep: KeepRequest }
  | { readonly settings: MountSettings; readonly image: ImageRequest };

/** Finds out how to serve an image; a signal ends the servers that were started to inspect it. */
async function prepare(image: ImageRequest, dryRun: boolean, report: Report): Promise<PreparedImage> {
  const { prepareImage } = await import('../image/prepare.js');
  const { untilSignal } = await import('./signals.js');
  const { showProgress } = await import('./progress.js');
  const server = { kind: 'uri', uri: image.name } as const;
  const end = isRemote(image.name)
    ? announceLater(() => void announceServer(server, report))
    : () => undefined;
  const watch = (started: NbdServer): (() => void) => showProgress(started, process.stderr, report, end);
  try {
    return await untilSignal((signal) => prepareImage(image, { dryRun, signal, watch }));
  } finally {
    end();
  }
}

/** The error of a mount of an image, in words that name the next step where nbdfuse knows it. */
async function explained(error: unknown, image: ImageRequest, mountpoint: string): Promise<unknown> {
  const { explainedOrder } = await import('./swapped.js');
  const { explainedFailure } = await import('../image/open.js');
  return explainedOrder(await explainedFailure(error, image), image.name, mountpoint);
}

/** A mount whose server is known. */
interface Settled {
  readonly settings: Settings;
  /** Where to mount an image; it was found before the image, which can take minutes to open. */
  readonly place?: MountPlace;
  /** Removes the files that were made for a mount which fails before somebody can use it. */
  readonly undo?: () => Promise<void>;
}

/** The settings with the server. Reports the format of an image. */
async function settle(mounting: Mounting, report: Report): Promise<Settled> {
  if (!('image' in mounting)) {
    const { settings, keep } = mounting;
    if (!wantsKept(keep)) return { settings };
    const { keepServer } = await import('./kept-server.js');
    return keepServer(settings, keep);
  }
  const { findPlace } = await import('../session/place.js');
  const place = await findPlace(mounting.settings, report);
  const { argv, lines, detail, directory, started, undo } = await prepare(mounting.image, false, report);
  for (const text of lines) report.line(text, 'info');
  report.detail(detail);
  const server = { kind: 'socket-activation', argv, directory, started } as const;
  return { settings: { ...mounting.settings, server }, place, undo };
}

/** Serves an image. Defers the output of its server while that starts. */
async function runImage(settings: Settings, report: Report, hooks: ProcessHooks): Promise<never> {
  const { deferServerStderr } = await import('./deferred-stderr.js');
  const { runProcess } = await import('../session/process.js');
  const deferred = deferServerStderr(report);
  const isReady = async (): Promise<void> => {
    deferred.release();
    await hooks.ready?.();
  };
  try {
    process.exit(await runProcess(settings, deferred.report, { ...hooks, ready: isReady }));
  } catch (error) {
    deferred.explain(error instanceof Error ? error.message : '');
    throw error;
  }
}

/** How to mount. */
interface MountHooks {
  /** An idle worker for the kernel backend, started early. */
  readonly worker?: Worker | undefined;
  /** Called when the file can be used, in the process in the background. */
  readonly becomeDaemon?: () => void;
}

/** Mounts, serves until the session ends, and ends the process, whatever may still be open in it. */
async function mount(mounting: Mounting, { worker: early, becomeDaemon }: MountHooks): Promise<never> {
  const target = new LogTarget(mounting.settings.logFile);
  const report = createReport(mounting.settings, target);
  let undo: Settled['undo'];
  try {
    // The worker's thread starts on another core while this thread loads the rest.
    const worker = mounting.settings.backend === 'kernel' ? (early ?? spawnWorker()) : undefined;
    const loading = import('../session/process.js');
    const settled = await settle(mounting, report).catch(async (error: unknown) => {
      if (worker !== undefined) await dismissWorker(worker);
      throw error;
    });
    const { settings, place } = settled;
    undo = settled.undo;
    const { runProcess } = await loading;
    const end = announceLater(() => void announceServer(settings.server, report));
    const ready = async (): Promise<void> => {
      undo = undefined;
      end();
      await target.becomeReady(becomeDaemon !== undefined);
      becomeDaemon?.();
    };
    const hooks = { ready, worker, place };
    if ('image' in mounting && !settings.verbose) return await runImage(settings, report, hooks);
    process.exit(await runProcess(settings, report, hooks));
  } catch (error) {
    await undo?.();
    report.error(
      'image' in mounting ? await explained(error, mounting.image, mounting.settings.mountpoint) : error,
    );
    process.exit(1);
  }
}

/** Mounts in the background. @param isDaemon whether this is the process in the background */
async function mountInBackground(
  mounting: Mounting,
  words: readonly string[],
  isDaemon: boolean,
): Promise<never> {
  const { becomeDaemon, startDaemon } = await import('./daemon.js');
  if (isDaemon) return mount(mounting, { becomeDaemon });
  const server = 'image' in mounting ? undefined : mounting.settings.server;
  process.exit(await startDaemon(words, server?.kind === 'fd' ? server.fd : undefined));
}

/** The output of --print-command. */
async function printedCommand(image: ImageRequest, words: readonly string[]): Promise<string> {
  const { longCommand } = await import('./arguments/image.js');
  return longCommand(words, await prepare(image, true, earlyReport(words)));
}

/** The exports of a server. */
async function list(listing: Listing): Promise<string> {
  const { listExports } = await import('./commands/list.js');
  return listExports(listing, createReport(listing));
}

/** Shows the activity of a mount until it ends. */
async function watch(watched: Watch, words: readonly string[]): Promise<string> {
  const { watchStatus } = await import('./commands/watch.js');
  const end = await watchStatus(watched, print, process.stdout);
  if (end !== undefined) earlyReport(words).line(end, 'info');
  return '';
}

/** The output of a request that mounts nothing. */
async function textFor(
  request: Exclude<Request, { readonly kind: 'mount' | 'image' }>,
  words: readonly string[],
): Promise<string> {
  switch (request.kind) {
    case 'print-command':
      return printedCommand(request.image, words);
    case 'list':
      return list(request.listing);
    case 'status':
      return (await import('./commands/status.js')).showStatus(request.inspection, process.stdout);
    case 'watch':
      return watch(request.watch, words);
    case 'cache':
      return (await import('./commands/cache.js')).runCache(request.request, process.env);
    case 'completion':
      return (await import('./arguments/completion.js')).completionScript(request.shell);
    case 'unmount':
      await (await import('./commands/unmount.js')).unmountAndWait(request.mountpoint, (text) =>
        earlyReport(words).line(text, 'info'),
      );
      return '';
    default:
      return answer(request.kind);
  }
}

/** Descriptors for one mount: with fewer it could end half-way, and leave a dead mount. */
const LEAST_DESCRIPTORS = 64;

/** @throws Error when this process may have too few open files to mount */
async function checkDescriptorLimit(): Promise<void> {
  const { descriptorLimit } = await import('../linux/process.js');
  const limit = descriptorLimit();
  if (limit === undefined || limit >= LEAST_DESCRIPTORS) return;
  throw new Error(
    `cannot mount: the limit of open files is ${limit}, and nbdfuse needs ${LEAST_DESCRIPTORS}; raise it: ulimit -n 1024`,
  );
}

/** Hides passwords and tokens of URLs in the list of processes. They were visible until now. */
function hideSecrets(words: readonly string[]): void {
  const title = titleWithoutSecrets('nbdfuse', words);
  if (title !== undefined) process.title = title;
}

/**
 * Runs the program with `given`, the command line without node and script. Never rejects.
 * @param worker an idle worker, started early because the words looked like a mount
 */
export async function main(given: readonly string[], worker?: Worker): Promise<void> {
  let words = given;
  try {
    const order = takeOrder(given);
    words = order ?? given;
    if (isDoubtful(words)) words = exactWords(words, readFileSync('/proc/self/cmdline'));
    hideSecrets(words);
    const request = parseArguments(words);
    const isMount = request.kind === 'mount' || request.kind === 'image';
    if (isMount) await checkDescriptorLimit();
    if (isMount && isDirectoryDeleted())
      throw new UsageError('the current directory was deleted; change to another one: cd /');
    if (isMount && !request.daemon && request.settings.backend === 'kernel')
      return await mount(request, { worker });
    if (worker !== undefined) await dismissWorker(worker);
    if (!isMount) print(await textFor(request, words));
    else if (request.daemon) await mountInBackground(request, words, order !== undefined);
    else await mount(request, {});
  } catch (error) {
    earlyReport(words).error(error);
    process.exitCode = 1;
    // Harmless where it has ended.
    if (worker !== undefined) void dismissWorker(worker);
  }
}

/** Writes to standard output. Its reader may close it early, as in `nbdfuse --help | head -1`; that ends the program. */
function print(text: string): void {
  if (process.stdout.listenerCount('error') === 0) process.stdout.on('error', endOutput);
  process.stdout.write(text);
}

function endOutput(error: NodeJS.ErrnoException): never {
  if (error.code === 'EPIPE') process.exit();
  earlyReport(process.argv).error(new Error(`cannot write to standard output: ${plainText(error)}`));
  process.exit(1);
}
