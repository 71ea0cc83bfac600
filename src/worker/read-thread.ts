// A read thread: started by the main thread, given its settings by the first call.

import type { ReadThreadSettings } from './contract/messages.js';
import { runThread } from './loop/thread.js';
import { ReadThread } from './read-threads/read-thread.js';

runThread((port, settings: ReadThreadSettings) => new ReadThread(port, settings).run());
