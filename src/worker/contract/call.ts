// A call of a method in another thread, as a message: its name and its arguments.
//
// An interface in messages.ts declares all calls of one direction. The sender names the method (`Send`), the receiver
// implements the interface (`deliver`), so that both ends have the same types. Arguments are plain data, copied or
// shared. Messages are rare: none belongs to a READ or WRITE.

type ArgumentsOf<Method> = Method extends (...args: infer Arguments) => void ? Arguments : never;

/** One call of a method of `Calls`. */
export type Call<Calls> = {
  [Name in keyof Calls]: readonly [name: Name, ...args: ArgumentsOf<Calls[Name]>];
}[keyof Calls];

/** Sends a call to the other thread. */
export type Send<Calls> = <Name extends keyof Calls>(name: Name, ...args: ArgumentsOf<Calls[Name]>) => void;

/** Makes a `Send` of something that posts messages. */
export function sender<Calls>(post: (call: readonly unknown[]) => void): Send<Calls> {
  return (name, ...args) => post([name, ...args]);
}

/** Calls the method that a message names. @throws TypeError if `target` has no such method */
export function deliver<Calls extends object>(
  [name, ...args]: readonly [keyof Calls, ...unknown[]],
  target: Partial<Calls>,
): void {
  const method: unknown = target[name];
  if (typeof method !== 'function') throw new TypeError(`no call ${String(name)} is expected here`);
  Reflect.apply(method, target, args);
}
