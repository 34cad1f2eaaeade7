using Sconce.Cli;
using Sconce.Cli.Terminal;
using Sconce.Engine.Weights.Script;

// Not a verb for people: the server starts itself so to try a TorchScript file, in a process that confines itself.
if (args is [ScriptTrialProcess.Verb, .. var trial])
    return ScriptTrialProcess.Run(trial);

return await SconceCommand.RunAsync(args, CommandTerminal.OfProcess()).ConfigureAwait(false);
