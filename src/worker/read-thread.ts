// A read thread: started by the main thread, given its settings by the first message.

import type { ReaderSettings } from './contract/messages.js';
import { runThread } from './loop/thread.js';
import { Reader } from './read-threads/read-thread.js';

runThread((port, settings: ReaderSettings) => new Reader(port, settings).run());
