// koffi, which calls native libraries. It is loaded at the first use: a client over TCP does without.
//
// Used by the files that declare functions of a library.

import { createRequire } from 'node:module';
import type Koffi from 'koffi';

/** See the file's head. The first use of any member replaces it: keep no other reference than this binding. */
export let koffi: typeof Koffi = new Proxy({} as typeof Koffi, {
  get: (_, name) => {
    koffi = createRequire(import.meta.url)('koffi');
    return koffi[name as keyof typeof Koffi];
  },
});
