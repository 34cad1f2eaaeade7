namespace Sconce.Cli;

/// <summary>What the process returns. 69 and 78 are sysexits.h's EX_UNAVAILABLE and EX_CONFIG; 130 is what shells give for SIGINT.</summary>
internal static class ExitCode
{
    public const int Ok = 0;
    public const int Refused = 1;
    public const int Usage = 2;
    public const int Unavailable = 69;
    public const int Config = 78;
    public const int Cancelled = 130;

    public const string Help =
        "0 done; 1 the server refused, or a check failed; 2 the command line or a local file is wrong; 69 no server answers; 78 the server's configuration is wrong; 130 interrupted.";
}
