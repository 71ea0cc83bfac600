// Adapts the fuse-native backend to the session.
//
// libfuse 2 does not report an unmount by another process, so this file watches the mount table.

import { NativeFileSystem } from '../../fuse-native/adapter.js';
import { findNewMount, openInMount } from '../../mount/attach.js';
import { detach, unmount } from '../../mount/detach.js';
import { MountError } from '../../mount/errors.js';
import { findAgain, type MountEntry } from '../../mount/mount-table.js';
import { type OtherPlace, OtherPlaces, openAt } from '../../mount/other-places.js';
import type { NegotiatedConnection } from '../../transport/connection.js';
import type { MountEvents } from '../../worker/contract/messages.js';
import { Deadline } from '../deadline.js';
import type { Backend, BackendRequest, PreparedBackend } from './backend.js';
import { treeOptions } from './tree-options.js';

/** Milliseconds between two checks of the mount table. */
const LOOK = 250;

/** There is nothing to prepare: libfuse is loaded when it mounts. */
export function prepareFuseNativeBackend(): PreparedBackend {
  return { start: startFuseNativeBackend, discard: async () => undefined };
}

async function startFuseNativeBackend(request: BackendRequest): Promise<Backend> {
  const { mountpoint, options, events, settings } = request;
  if (settings.partitions) {
    throw new MountError('--partitions cannot be used with fuse-native; use --fuse-backend=kernel');
  }
  if (request.changing) {
    throw new MountError('--all cannot be used with fuse-native; use --fuse-backend=kernel');
  }
  if (mountpoint.kind === 'file') {
    throw new MountError(
      `mountpoint ${mountpoint.text}: fuse-native mounts on directories only; use --fuse-backend=kernel`,
    );
  }
  const files = request.files.flatMap(({ info, ...file }) => (info === undefined ? [] : [{ ...file, info }]));
  if (files.some(({ info }) => info.size > BigInt(Number.MAX_SAFE_INTEGER))) {
    throw new MountError(
      `cannot mount ${mountpoint.text}: fuse-native serves at most 2^53 bytes; use --fuse-backend=kernel`,
    );
  }
  await mountpoint.target.check();
  const { place } = mountpoint.target;
  try {
    const system = await NativeFileSystem.mount(
      {
        ...options,
        path: place.path,
        directory: place.directory,
        files,
        tree: treeOptions(options),
        fsname: options.fsname ?? 'nbdfuse',
        subtype: options.subtype ?? 'nbdfuse',
        // libfuse prints its own lines, which are not JSON.
        debug: settings.verbose && settings.logFormat === 'text',
        settleTime: settings.settleMs,
      },
      (file, { error, madeProgress }) =>
        events.files.connectionLost(file, 0, error.message, { madeProgress, otherDisk: false }),
    );
    const mount = await findNewMount(mountpoint, options, system.device);
    return new FuseNativeBackend(
      system,
      mount,
      files.map(({ name }) => name),
      events,
    );
  } catch (error) {
    if (error instanceof MountError) throw error;
    const why = error instanceof Error ? error.message.split('\n')[0] : String(error);
    throw new MountError(`cannot mount ${mountpoint.text} with fuse-native: ${why}`);
  }
}

class FuseNativeBackend implements Backend {
  readonly ready = Promise.resolve();
  readonly directory = undefined;
  readonly showParts = undefined;
  readonly chunksChanged = undefined;
  readonly readKept = undefined;
  readonly addReadThread = undefined;
  readonly #system: NativeFileSystem;
  readonly #mount: MountEntry;
  readonly #names: readonly string[];
  readonly #events: MountEvents;
  readonly #watch: NodeJS.Timeout;

  constructor(system: NativeFileSystem, mount: MountEntry, names: readonly string[], events: MountEvents) {
    this.#events = events;
    this.#names = names;
    this.#system = system;
    this.#mount = mount;
    this.#watch = setInterval(() => {
      if (findAgain(mount) !== undefined) return;
      clearInterval(this.#watch);
      events.unmounted();
    }, LOOK);
  }

  attach(file: number, connection: number, negotiated: NegotiatedConnection): void {
    this.#system.attach(file, negotiated);
    this.#events.files.connectionAccepted(file, connection);
  }

  onServerEnd(file: number): () => void {
    return this.#system.whenServerEnds(file);
  }

  fail(file: number, errno: number): void {
    this.#system.fail(file, errno);
  }

  async usePassthrough(): Promise<string> {
    return 'the fuse-native backend cannot do it';
  }

  async status(): Promise<readonly []> {
    return [];
  }

  unmount(options: { readonly lazy: boolean }): Promise<void> {
    clearInterval(this.#watch);
    return options.lazy ? detach(this.#mount) : unmount(this.#mount);
  }

  open(file: number, place?: OtherPlace): Promise<number> {
    const name = this.#names[file];
    return place === undefined ? openInMount(this.#mount, name) : openAt(place, name);
  }

  otherPlaces(): OtherPlaces {
    return new OtherPlaces(this.#mount);
  }

  async stop(milliseconds: number): ReturnType<Backend['stop']> {
    clearInterval(this.#watch);
    const outcome = await new Deadline(milliseconds).outcomeOf(this.#system.close());
    const reason =
      outcome.kind === 'late' ? 'timeout' : outcome.kind === 'failed' ? String(outcome.error) : '';
    return { unwrittenBytes: 0, ranges: [], reason };
  }
}
