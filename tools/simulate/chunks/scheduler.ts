// Decides what happens next in a simulated world: one seed, one history.

import { mix, type Random } from '../random.js';
import { Violation } from './violation.js';
import { VirtualTime } from './virtual-time.js';

/** An event that may happen now. */
interface Happening {
  readonly name: string;
  readonly act: () => void;
  /** Whether it can happen; undefined: always. */
  readonly canHappen: (() => boolean) | undefined;
}

/** Of so many choices between an event and the next timer, one is the timer. */
const TIMER_CHANCE = 0.06;
/** Most events until something that must come has come. */
const MOST_EVENTS = 60_000;

/** A turn of the real event loop: all promises that can go on have gone on. */
const realImmediate = setImmediate;
const turn = (): Promise<void> => new Promise((resolve) => realImmediate(resolve));

/** See the file's head. */
export class Scheduler {
  readonly time = new VirtualTime();
  readonly random: Random;
  /** Lines of the history; undefined: nobody reads them. */
  readonly log: string[] | undefined;
  /** A number that is the same for the same history. */
  digest = 0;
  steps = 0;
  /** Called after each event. */
  onStep: () => void = () => undefined;
  #events: Happening[] = [];

  constructor(random: Random, log: string[] | undefined) {
    this.random = random;
    this.log = log;
  }

  add(name: string, act: () => void, canHappen?: () => boolean): void {
    this.#events.push({ name, act, canHappen });
  }

  /** The process ends: nothing that it waits for happens any more. @returns the names of the events that do not happen */
  clear(): string[] {
    const names = this.#events.map(({ name }) => name);
    this.#events = [];
    this.time.clear();
    return names;
  }

  note(text: string): void {
    for (let at = 0; at < text.length; at++) this.digest = mix(this.digest, text.charCodeAt(at));
    this.log?.push(`${this.time.now.toFixed(0).padStart(7)} ms  ${text}`);
  }

  /** Lets one event happen, and all that follows from it at once. False: there is none. */
  async step(): Promise<boolean> {
    const hasHappened = this.#happen();
    this.steps += 1;
    await turn();
    this.onStep();
    return hasHappened;
  }

  /** Lets events happen until a condition holds. @throws Violation if it never does */
  async until(holds: () => boolean, rule: 'no answer' | 'no end', what: string): Promise<void> {
    for (let i = 0; !holds(); i++) {
      if (i === MOST_EVENTS || (!(await this.step()) && !holds())) throw new Violation(rule, what);
    }
  }

  /** The outcome of a promise, when events have settled it. */
  async settled<T>(promise: Promise<T>, what: string): Promise<T> {
    let isSettled = false;
    const settle = (): void => {
      isSettled = true;
    };
    promise.then(settle, settle);
    await turn();
    await this.until(() => isSettled, 'no end', what);
    return promise;
  }

  #happen(): boolean {
    const { time, random } = this;
    const able = this.#events.filter(({ canHappen }) => canHappen === undefined || canHappen());
    const count = able.length + (time.hasImmediates ? 1 : 0);
    if (time.hasTimers && (count === 0 || random.chance(TIMER_CHANCE))) {
      time.runTimer();
      this.note('a timer');
      return true;
    }
    if (count === 0) return false;
    const which = random.below(count);
    if (which === able.length) {
      this.note('the next turn');
      time.runImmediates();
      return true;
    }
    const event = able[which];
    this.#events.splice(this.#events.indexOf(event), 1);
    this.note(event.name);
    event.act();
    return true;
  }
}
