using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Optimizers;

/// <summary>PyTorch's line search for a step length that satisfies the strong Wolfe conditions (a port of Mark Schmidt's minFunc).</summary>
internal static class StrongWolfe
{
    private const double Armijo = 1e-4;
    private const double Curvature = 0.9;
    private const int MostEvaluations = 25;

    /// <summary>Searches along a direction.</summary>
    /// <param name="evaluate">Loss and gradient at a step length.</param>
    /// <param name="length">First length to try.</param>
    /// <param name="direction">The direction.</param>
    /// <param name="loss">Loss at length 0.</param>
    /// <param name="gradient">Gradient at length 0.</param>
    /// <param name="slope">Directional derivative at length 0.</param>
    /// <param name="tolerance">An interval that moves no parameter by more than this ends the search.</param>
    public static (double Loss, Tensor Gradient, double Length, int Evaluations) Search(
        Func<double, (double Loss, Tensor Gradient)> evaluate, double length, Tensor direction, double loss, Tensor gradient, double slope, double tolerance)
    {
        var scale = direction.abs().max().ToDouble();
        var origin = new Point(0, loss, gradient, slope);
        var current = Evaluate(length);
        var evaluations = 1;
        var previous = origin;
        Point low, high;
        var done = false;
        var iteration = 0;

        // Bracket an interval that holds a point which satisfies the conditions.
        while (true)
        {
            if (iteration == MostEvaluations)
            {
                (low, high) = (origin, current);
                break;
            }

            if (current.Loss > loss + (Armijo * current.Length * slope) || (iteration > 1 && current.Loss >= previous.Loss))
            {
                (low, high) = (previous, current);
                break;
            }

            if (Math.Abs(current.Slope) <= -Curvature * slope)
            {
                (low, high) = (current, current);
                done = true;
                break;
            }

            if (current.Slope >= 0)
            {
                (low, high) = (previous, current);
                break;
            }

            var least = current.Length + (0.01 * (current.Length - previous.Length));
            var next = Interpolate(previous, current, least, current.Length * 10);
            previous = current;
            current = Evaluate(next);
            evaluations++;
            iteration++;
        }

        if (low.Loss > high.Loss)
        {
            (low, high) = (high, low);
        }

        // Zoom into it.
        var insufficient = false;
        while (!done && iteration < MostEvaluations && Math.Abs(high.Length - low.Length) * scale >= tolerance)
        {
            var (left, right) = low.Length <= high.Length ? (low.Length, high.Length) : (high.Length, low.Length);
            var next = Interpolate(low, high, left, right);

            // A trial near an end of the interval, twice or at the end itself, is moved a tenth inwards: else the interval might hardly shrink.
            var margin = 0.1 * (right - left);
            if (Math.Min(right - next, next - left) < margin)
            {
                if (insufficient || next >= right || next <= left)
                {
                    next = Math.Abs(next - right) < Math.Abs(next - left) ? right - margin : left + margin;
                    insufficient = false;
                }
                else
                {
                    insufficient = true;
                }
            }
            else
            {
                insufficient = false;
            }

            current = Evaluate(next);
            evaluations++;
            iteration++;
            if (current.Loss > loss + (Armijo * current.Length * slope) || current.Loss >= low.Loss)
            {
                high = current;
                if (low.Loss > high.Loss)
                {
                    (low, high) = (high, low);
                }
            }
            else
            {
                done = Math.Abs(current.Slope) <= -Curvature * slope;
                if (!done && current.Slope * (high.Length - low.Length) >= 0)
                {
                    high = low;
                }

                low = current;
            }
        }

        return (low.Loss, low.Gradient, low.Length, evaluations);

        Point Evaluate(double at)
        {
            var (value, slopes) = evaluate(at);
            return new Point(at, value, slopes, slopes.dot(direction).ToDouble());
        }
    }

    /// <summary>The minimum of the cubic through two points and their slopes, kept within bounds.</summary>
    private static double Interpolate(Point a, Point b, double least, double most)
    {
        var d1 = a.Slope + b.Slope - (3 * (a.Loss - b.Loss) / (a.Length - b.Length));
        var square = (d1 * d1) - (a.Slope * b.Slope);
        if (!(square >= 0))
        {
            return (least + most) / 2;
        }

        var d2 = Math.Sqrt(square);
        var minimum = a.Length <= b.Length
            ? b.Length - ((b.Length - a.Length) * ((b.Slope + d2 - d1) / (b.Slope - a.Slope + (2 * d2))))
            : a.Length - ((a.Length - b.Length) * ((a.Slope + d2 - d1) / (a.Slope - b.Slope + (2 * d2))));
        return Math.Min(Math.Max(minimum, least), most);
    }

    private readonly record struct Point(double Length, double Loss, Tensor Gradient, double Slope);
}
