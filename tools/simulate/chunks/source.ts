// The source of an image: a file, or the disk of a server, whose answers come in any order, late, or not at all.

import type { Input } from '../../../src/chunks/contract/coding.js';
import type { ReturnedDisk } from '../../../src/chunks/contract/disk.js';
import type { ServerBelow } from '../../../src/chunks/disk/writable-disk.js';
import { EIO, ENOTCONN } from '../../../src/constants/errno.js';
import type { Scheduler } from './scheduler.js';

interface Waiting {
  isOver: boolean;
  readonly lose: () => void;
}

const lost = (): Error => Object.assign(new Error('the source is lost'), { errno: ENOTCONN, isLost: true });

export interface SourceOptions {
  readonly scheduler: Scheduler;
  readonly size: number;
  readonly parallel: number;
  /** The bytes of a range now. */
  readonly bytes: (offset: number, length: number) => Uint8Array;
  /** A change is on its way to the server. */
  readonly send: (offset: number, length: number) => void;
  /** Its bytes arrive there. */
  readonly change: (offset: number, bytes: Uint8Array, isDurable: boolean) => void;
  /** The server carries out a FLUSH. */
  readonly flush: () => void;
  /** The process of the server ends. */
  readonly end: () => void;
  /** Whether the end of its process loses changes. */
  readonly isVolatile: boolean;
  /** The chance of an error of one read. */
  readonly errors: number;
  /** A read begins. @returns a function for its end */
  readonly onRead: (offset: number) => () => void;
}

/** See the file's head. */
export class Source implements Input, ServerBelow {
  readonly size: number;
  readonly parallel: number;
  readonly isVolatile: boolean;
  /** Set by `lose` and `comeBack`. */
  isAlive = true;
  onLoss: () => void = () => undefined;
  onReturn: ServerBelow['onReturn'] = async () => undefined;
  /** Whether reads may fail one by one. */
  mayFail = true;
  /** Failures so far, and losses. */
  failures = 0;
  losses = 0;
  readonly #options: SourceOptions;
  readonly #waiting = new Set<Waiting>();
  /** Changes that have not arrived. */
  readonly #arriving = new Set<() => void>();
  /** Whether nobody has looked at the disk since the source came back, and the look that is under way. */
  #isUnseen = false;
  #look: Promise<void> | undefined;

  constructor(options: SourceOptions) {
    this.#options = options;
    this.isVolatile = options.isVolatile;
    this.size = options.size;
    this.parallel = options.parallel;
  }

  /** The source for those who compare it: single reads do not fail. */
  get sound(): ReturnedDisk {
    return { readOnly: false, read: (offset, length) => this.#read(offset, length, 0) };
  }

  read(offset: number, length: number): Promise<Uint8Array> {
    const end = this.#options.onRead(offset);
    return this.#fetch(offset, length).finally(end);
  }

  #fetch(offset: number, length: number): Promise<Uint8Array> {
    return this.#whenSeen(() => this.#read(offset, length, this.#options.errors));
  }

  #read(offset: number, length: number, errors: number): Promise<Uint8Array> {
    const { bytes, scheduler } = this.#options;
    return this.#ask(`the source reads ${length} at ${offset}`, () => {
      if (this.mayFail && scheduler.random.chance(errors)) {
        this.failures += 1;
        throw Object.assign(new Error('the source cannot read'), { errno: EIO });
      }
      return bytes(offset, length);
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /**
   * Ends all connections; changes in progress may still be made, at any later time.
   * @param isEnd whether the process of the server ends
   */
  lose(isEnd: boolean): void {
    this.isAlive = false;
    this.losses += 1;
    if (isEnd) this.#options.end();
    for (const waiting of this.#waiting) waiting.lose();
    this.#waiting.clear();
    this.onLoss();
  }

  /** The source can be reached again. The first to ask it has its disk looked at, and the others wait for that. */
  comeBack(): void {
    if (this.isAlive) return;
    this.isAlive = true;
    this.#isUnseen = true;
    this.#look = undefined;
  }

  async #seen(): Promise<void> {
    this.#look ??= this.onReturn(this.sound);
    const look = this.#look;
    await look;
    if (this.#look === look) this.#isUnseen = false;
  }

  client(): ReturnType<ServerBelow['client']> {
    const refuse = (): Promise<never> => Promise.reject(lost());
    return Promise.resolve({
      info: { blockSizes: undefined },
      size: BigInt(this.size),
      blockSizes: { minimum: 1, preferred: 4096, maximum: 2 ** 25 },
      readOnly: false,
      description: undefined,
      canFlush: true,
      canFua: true,
      canTrim: true,
      canZero: true,
      canFastZero: false,
      canBlockStatus: false,
      isRotational: false,
      read: async (offset, length) => Buffer.from(await this.#fetch(Number(offset), length)),
      write: (offset, bytes, flags) => this.#write(Number(offset), bytes, flags?.fua === true),
      zero: (offset, length, flags) =>
        this.#write(Number(offset), new Uint8Array(Number(length)), flags?.fua === true),
      trim: (offset, length) => this.#write(Number(offset), new Uint8Array(Number(length)), false),
      flush: () => this.#whenSeen(() => this.#ask('the source flushes', () => this.#options.flush())),
      blockStatus: refuse,
    });
  }

  onLost(): Promise<void> {
    return Promise.resolve();
  }

  lossOf(error: unknown): Promise<unknown> {
    return Promise.resolve(error);
  }

  /** Asks the source once its disk has been looked at. A loss meanwhile ends that connection. */
  #whenSeen<T>(act: () => Promise<T>): Promise<T> {
    if (!this.isAlive || !this.#isUnseen) return act();
    const { losses } = this;
    return this.#seen().then(() => (this.losses === losses ? act() : Promise.reject(lost())));
  }

  #write(offset: number, bytes: Uint8Array, isDurable: boolean): Promise<void> {
    return this.#whenSeen(() => this.#change(offset, bytes, isDurable));
  }

  /** A change: it arrives, and later its reply. After a loss it may still arrive, and is not answered. */
  #change(offset: number, bytes: Uint8Array, isDurable: boolean): Promise<void> {
    const { send, change, scheduler } = this.#options;
    if (!this.isAlive) return Promise.reject(lost());
    send(offset, bytes.length);
    const kept = Uint8Array.from(bytes);
    const waiting = this.#track();
    return new Promise((resolve, reject) => {
      waiting.onLoss = () => reject(lost());
      const arrive = (): void => {
        this.#arriving.delete(arrive);
        change(offset, kept, isDurable);
      };
      this.#arriving.add(arrive);
      scheduler.add(`the source changes ${kept.length} at ${offset}`, () => {
        arrive();
        if (waiting.isOver) return;
        scheduler.add('the source answers a change', () => {
          if (waiting.isOver) return;
          this.#waiting.delete(waiting);
          resolve();
        });
      });
    });
  }

  /** The process that asks has ended: changes on their way arrive now, or never. */
  settleArrivals(): void {
    for (const arrive of [...this.#arriving]) if (this.#options.scheduler.random.chance(0.5)) arrive();
    this.#arriving.clear();
  }

  /** The source makes its answer, which arrives later. */
  #ask<T>(name: string, answer: () => T): Promise<T> {
    const { scheduler } = this.#options;
    if (!this.isAlive) return Promise.reject(lost());
    const waiting = this.#track();
    const when = (act: () => void) => (): void => {
      if (!waiting.isOver) act();
    };
    return new Promise((resolve, reject) => {
      waiting.onLoss = () => reject(lost());
      const fail = (error: unknown): void => {
        this.#waiting.delete(waiting);
        reject(error);
      };
      const make = (): void => {
        try {
          const made = answer();
          scheduler.add(
            'an answer of the source arrives',
            when(() => {
              this.#waiting.delete(waiting);
              resolve(made);
            }),
          );
        } catch (error) {
          fail(error);
        }
      };
      scheduler.add(name, when(make));
    });
  }

  #track(): Waiting & { onLoss: () => void } {
    const waiting = {
      isOver: false,
      onLoss: (): void => undefined,
      lose: (): void => {
        waiting.isOver = true;
        waiting.onLoss();
      },
    };
    this.#waiting.add(waiting);
    return waiting;
  }
}
