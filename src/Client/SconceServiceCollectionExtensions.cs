using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Sconce.Client;

/// <summary>Registers clients for dependency injection.</summary>
public static class SconceServiceCollectionExtensions
{
    /// <summary>Registers one <see cref="SconceClient"/> for the application.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, e.g. <c>o => o.Address = "http://127.0.0.1:50051"</c>.</param>
    public static IServiceCollection AddSconceClient(this IServiceCollection services, Action<SconceClientOptions> configure)
    {
        AddOptions(services, Options.DefaultName, configure);
        return services.AddSingleton(provider => Create(provider, Options.DefaultName));
    }

    /// <summary>
    /// Registers a further client under a name, to be taken with <c>[FromKeyedServices("name")]</c>: one for each server.
    /// </summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The name.</param>
    /// <param name="configure">Sets the options.</param>
    public static IServiceCollection AddSconceClient(this IServiceCollection services, string name, Action<SconceClientOptions> configure)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        AddOptions(services, name, configure);
        return services.AddKeyedSingleton(name, (provider, _) => Create(provider, name));
    }

    private static void AddOptions(IServiceCollection services, string name, Action<SconceClientOptions> configure)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<SconceClientOptions>(name).Configure(configure);
    }

    private static SconceClient Create(IServiceProvider provider, string name) =>
        new(provider.GetRequiredService<IOptionsMonitor<SconceClientOptions>>().Get(name), provider.GetService<ILoggerFactory>());
}
