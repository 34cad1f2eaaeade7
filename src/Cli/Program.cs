using Sconce.Cli;
using Sconce.Cli.Terminal;

return await SconceCommand.RunAsync(args, CommandTerminal.OfProcess()).ConfigureAwait(false);
