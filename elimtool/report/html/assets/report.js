// A page that carries the data of all its prompts.

start(showPrompt, showRun);
