// The control plane of --all, which shows every export of a server as a file of one directory.
//
// Made by start.ts. Lists the exports when a program reads the directory, and connects a file when it is opened; an
// unused file closes its connections. Nothing here blocks or rejects.

import { join } from 'node:path';
import { EIO, EMFILE, ENOENT, ESTALE } from '../../constants/errno.js';
import type { Mountpoint } from '../../mount/mountpoint.js';
import { capabilitiesOf } from '../../nbd/capabilities.js';
import type { ExportInfo } from '../../nbd/export-info.js';
import type { NegotiatedConnection } from '../../transport/connection.js';
import type { NbdServer } from '../../transport/server.js';
import { withinTime } from '../../transport/time-limit.js';
import type { LossOutcome, ServedFile } from '../../worker/contract/messages.js';
import type { Backend, DirectoryAnswers } from '../backend/backend.js';
import { systemClock } from '../clock.js';
import { adoptFurther, createReconnector } from '../connect/connected-disk.js';
import { type FirstConnection, makeFirstConnection } from '../connect/first-connection.js';
import { connectFurther, connectionCount, reportCorrections } from '../connect/open-disk.js';
import type { Reconnector } from '../connect/reconnect.js';
import { SharedServer } from '../connect/shared-server.js';
import type { FileKeeper, Served } from '../file-keeper.js';
import type { Report, Settings } from '../settings.js';
import { type ExportChange, type ExportFile, ExportList, sameShape } from './export-list.js';
import { Refresher } from './refresher.js';

/** Connections of all files together: above the first limit a new file gets only one, at the second none. */
const MANY_CONNECTIONS = 512;
const MOST_CONNECTIONS = 4000;
/** Milliseconds to wait for the server's list, or for the description of an export. */
const LIST_TIME = 10_000;
const LATE = 'the server did not answer';

/** The parts of an ExportDirectoryKeeper. */
export interface ExportDirectoryParts {
  readonly settings: Settings;
  readonly report: Report;
  readonly mountpoint: Mountpoint;
  readonly server: NbdServer;
  /** The properties that all files share. */
  readonly common: Pick<ServedFile, 'readOnly' | 'server' | 'tls'>;
}

/** A file that is open, or is being opened. */
interface OpenFile {
  readonly file: ExportFile;
  readonly stop: AbortController;
  connections: number;
  reconnector: Reconnector<NegotiatedConnection> | undefined;
}

/** See the file's head. */
export class ExportDirectoryKeeper implements FileKeeper {
  readonly #parts: ExportDirectoryParts;
  readonly #server: SharedServer;
  readonly #list = new ExportList();
  readonly #refresher: Refresher;
  readonly #open = new Map<number, OpenFile>();
  readonly #stop = new AbortController();
  #backend: Backend | undefined;
  #leftOut = '';
  /** Why the last list failed; empty if it did not. */
  #trouble = '';
  /** The server was unreachable for the whole --reconnect time: the next open does not wait. */
  #isGivenUp = false;

  constructor(parts: ExportDirectoryParts) {
    this.#parts = parts;
    this.#server = new SharedServer(parts.server, parts.settings.restart, {
      isUsed: () => [...this.#open.values()].some(({ reconnector }) => reconnector?.failed === false),
      restarts: () => {
        const ends = [...this.#open.keys()].map((file) => this.#backend?.onServerEnd(file));
        return () => {
          for (const ended of ends) ended?.();
        };
      },
    });
    this.#refresher = new Refresher(systemClock, () => this.#relist());
  }

  /** Loads the first list. @throws TransportError, NbdServerError, NbdProtocolError */
  async load(signal: AbortSignal): Promise<void> {
    this.#takeList(await this.#server.list(signal, true));
    this.#refresher.fresh();
  }

  begin(backend: Backend): void {
    this.#backend = backend;
    this.#tell({ added: this.#list.files(), removed: [] });
  }

  ready(): void {}

  /** An export that is gone has no path, and its end is not a failure. */
  served(): readonly Served[] {
    const shown = [...this.#open.values()].filter(({ file }) => this.#list.file(file.number) !== undefined);
    return shown.flatMap(({ file: { number, name }, reconnector }) =>
      reconnector === undefined ? [] : [{ file: number, path: this.#pathOf(name), reconnector }],
    );
  }

  connectionLost(file: number, connection: number, why: string, outcome: LossOutcome): void {
    this.#open.get(file)?.reconnector?.lost(connection, why, outcome);
  }

  connectionAccepted(file: number, connection: number): void {
    this.#open.get(file)?.reconnector?.accepted(connection);
  }

  listWanted(): void {
    void this.#refresher.want().then(() => this.#tell({ added: [], removed: [] }));
  }

  descriptionWanted(file: number): void {
    const found = this.#list.file(file);
    if (found !== undefined) void this.#describe(found);
  }

  connectionWanted(file: number): void {
    if (this.#open.has(file)) return;
    const found = this.#list.file(file);
    if (found === undefined) this.#answers?.refuse(file, ENOENT);
    else if (this.#connections >= MOST_CONNECTIONS) this.#answers?.refuse(file, EMFILE);
    else void this.#connect(found);
  }

  idle(file: number): void {
    const open = this.#open.get(file);
    this.#open.delete(file);
    open?.stop.abort();
    void open?.reconnector?.stop();
  }

  /** Ends all attempts to connect or to list. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all([...this.#open.values()].map(({ reconnector }) => reconnector?.stop()));
  }

  get #answers(): DirectoryAnswers | undefined {
    return this.#backend?.directory;
  }

  get #connections(): number {
    return [...this.#open.values()].reduce((sum, { connections }) => sum + connections, 0);
  }

  #pathOf(name: string): string {
    return join(this.#parts.mountpoint.path, name);
  }

  #labelOf({ name }: ExportFile): string {
    return join(this.#parts.mountpoint.text, name);
  }

  #shown({ name, info }: ExportFile): ServedFile {
    const { common } = this.#parts;
    return {
      ...common,
      name,
      info,
      readOnly: common.readOnly || (info !== undefined && capabilitiesOf(info).readOnly),
    };
  }

  #tell({ added, removed }: ExportChange): void {
    this.#answers?.listed({
      added: added.map((file) => ({ number: file.number, file: this.#shown(file) })),
      removed,
    });
  }

  async #relist(): Promise<void> {
    const { report, mountpoint } = this.#parts;
    try {
      const list = (signal: AbortSignal) => this.#server.list(signal, false);
      const change = this.#takeList(await withinTime(LIST_TIME, LATE, this.#stop.signal, list));
      if (change.added.length + change.removed.length > 0) this.#tell(change);
      this.#isGivenUp = false;
      this.#trouble = '';
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      if (!this.#stop.signal.aborted && why !== this.#trouble)
        report.line(`${mountpoint.text}: cannot list the exports: ${why}; showing the last list`);
      this.#trouble = why;
      throw error;
    }
  }

  #takeList(exports: Parameters<ExportList['update']>[0]): ExportChange {
    const { report, mountpoint } = this.#parts;
    const { leftOut, ...change } = this.#list.update(exports);
    const text = leftOut.join(', ');
    if (text !== '' && text !== this.#leftOut)
      report.line(
        `${mountpoint.text}: cannot show these exports, because other files have their names: ${text}`,
      );
    this.#leftOut = text;
    return change;
  }

  async #describe(file: ExportFile): Promise<void> {
    const { number, exportName } = file;
    try {
      const describe = (signal: AbortSignal) => this.#server.describe(exportName, signal);
      const info = await withinTime(LIST_TIME, LATE, this.#stop.signal, describe);
      this.#list.learn(number, info);
      this.#answers?.described(number, this.#shown({ ...file, info }), 0);
    } catch (error) {
      const { errno } = error as { errno?: unknown };
      this.#answers?.described(number, this.#shown(file), typeof errno === 'number' ? errno : EIO);
    }
  }

  async #connect(file: ExportFile): Promise<void> {
    const { settings, report } = this.#parts;
    const stop = new AbortController();
    const open: OpenFile = { file, stop, connections: 1, reconnector: undefined };
    this.#open.set(file.number, open);
    const first = await makeFirstConnection<NegotiatedConnection>({
      name: this.#labelOf(file),
      connect: (signal) => this.#server.connect(file.exportName, signal),
      limit: this.#isGivenUp ? 0 : settings.reconnectMs,
      clock: systemClock,
      report,
      signal: AbortSignal.any([stop.signal, this.#stop.signal]),
    });
    if (first.kind === 'connected') reportCorrections(first.connection.info, report);
    if (first.kind !== 'connected') this.#failOpen(open, first);
    else if (this.#isStill(file, first.connection.info)) this.#use(open, first.connection);
    else {
      first.connection.close();
      this.#open.delete(file.number);
      this.#tell(this.#list.replace(file.number, first.connection.info));
      // The kernel then looks the name up again.
      this.#answers?.refuse(file.number, ESTALE);
    }
  }

  /** Whether a file is still listed, with the shape that its export has now. */
  #isStill({ number }: ExportFile, info: ExportInfo): boolean {
    const listed = this.#list.file(number);
    return listed !== undefined && sameShape(listed.info, info);
  }

  #failOpen(open: OpenFile, failure: Exclude<FirstConnection<unknown>, { kind: 'connected' }>): void {
    const { file } = open;
    const { number } = file;
    // The file may have been closed and opened again meanwhile.
    if (this.#open.get(number) !== open) return;
    this.#open.delete(number);
    if (failure.kind === 'stopped') {
      this.#answers?.refuse(number, EIO);
      return;
    }
    this.#parts.report.line(`${this.#labelOf(file)}: open failed: ${failure.why}`);
    if (failure.kind === 'unreachable') this.#isGivenUp = true;
    else if (failure.gone) this.#tell(this.#list.remove(number));
    this.#answers?.refuse(number, failure.kind === 'refused' ? failure.errno : EIO);
  }

  /** Puts a file's first connection to use. */
  #use(open: OpenFile, first: NegotiatedConnection): void {
    const { settings, report } = this.#parts;
    const { file, stop } = open;
    const { info } = first;
    const backend = this.#backend;
    if (backend === undefined || stop.signal.aborted || this.#stop.signal.aborted) {
      first.close();
      return;
    }
    this.#isGivenUp = false;
    this.#list.learn(file.number, info);
    const connect = (signal: AbortSignal): Promise<NegotiatedConnection> =>
      this.#server.connect(file.exportName, signal);
    const reconnector = createReconnector({
      name: this.#labelOf(file),
      file: file.number,
      disk: { server: this.#server.server, info },
      connect: this.#server.reconnectable ? connect : undefined,
      backend,
      settings,
      report,
    });
    try {
      reconnector.attach(0, first);
    } catch (error) {
      this.#failOpen(open, {
        kind: 'unreachable',
        why: error instanceof Error ? error.message : String(error),
      });
      return;
    }
    open.reconnector = reconnector;
    this.#connectFurther(open, info, connect);
  }

  #connectFurther(
    open: OpenFile,
    info: ExportInfo,
    connect: (signal: AbortSignal) => Promise<NegotiatedConnection>,
  ): void {
    const { settings, report } = this.#parts;
    if (open.reconnector === undefined || this.#connections >= MANY_CONNECTIONS) return;
    open.connections = connectionCount(settings, this.#server.server, info);
    const signal = AbortSignal.any([open.stop.signal, this.#stop.signal]);
    const further = Array.from({ length: open.connections - 1 }, () =>
      connectFurther(connect, info, report, signal),
    );
    adoptFurther(further, open.reconnector, signal);
  }
}
