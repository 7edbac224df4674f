// The hyperbolic tangent and the error function, to the bits of the `libm` crate, which the CPU calls. They have to do the
// same operations in the same order with the same constants, which are those of FreeBSD's msun:
//
// Copyright (C) 1993 by Sun Microsystems, Inc. All rights reserved. Developed at SunPro, a Sun Microsystems, Inc.
// business. Permission to use, copy, modify, and distribute this software is freely granted, provided that this notice
// is preserved.

// A polynomial by Horner's rule, the constant term first.
template <int TERMS>
__device__ inline float polynomial(float x, const float (&terms)[TERMS]) {
    float sum = terms[TERMS - 1];
#pragma unroll
    for (int i = TERMS - 2; i >= 0; i--) sum = terms[i] + x * sum;
    return sum;
}

__device__ inline float power_of_two(int exponent) { return __uint_as_float((u32)(127 + exponent) << 23); }

// e^x - 1, for what a hyperbolic tangent asks: |x| at most 20, or not a number.
__device__ inline float exponential_less_one(float x) {
    u32 magnitude = __float_as_uint(x) & 0x7fffffff;
    bool negative = __float_as_uint(x) >> 31;
    if (magnitude > 0x7f800000u) return x;
    if (magnitude >= 0x4195b844u && negative) return -1.0f;
    if (magnitude < 0x33000000u) return x;
    int k = 0;
    float lost = 0.0f;
    if (magnitude > 0x3eb17218u) {
        float high, low;
        if (magnitude < 0x3f851592u) {
            k = negative ? -1 : 1;
            high = negative ? x + 6.9313812256e-01f : x - 6.9313812256e-01f;
            low = negative ? -9.0580006145e-06f : 9.0580006145e-06f;
        } else {
            k = (int)(1.4426950216e+00f * x + (negative ? -0.5f : 0.5f));
            high = x - (float)k * 6.9313812256e-01f;
            low = (float)k * 9.0580006145e-06f;
        }
        x = high - low;
        lost = (high - x) - low;
    }
    float half = 0.5f * x;
    float square = x * half;
    float r = 1.0f + square * (-3.3333212137e-2f + square * 1.5807170421e-3f);
    float t = 3.0f - r * half;
    float e = square * ((r - t) / (6.0f - x * t));
    if (k == 0) return x - (x * e - square);
    e = x * (e - lost) - lost;
    e -= square;
    if (k == -1) return 0.5f * (x - e) - 0.5f;
    if (k == 1) return x < -0.25f ? -2.0f * (e - (x + 0.5f)) : 1.0f + 2.0f * (x - e);
    float scale = power_of_two(k);
    if (k < 0 || k > 56) return (x - e + 1.0f) * scale - 1.0f;
    float inverse = power_of_two(-k);
    return k < 23 ? (x - e + (1.0f - inverse)) * scale : (x - (e + inverse) + 1.0f) * scale;
}

__device__ inline float hyperbolic_tangent(float x) {
    u32 magnitude = __float_as_uint(x) & 0x7fffffff;
    float a = __uint_as_float(magnitude), result;
    if (magnitude > 0x41200000u) {
        result = 1.0f + 0.0f / a;
    } else if (magnitude > 0x3f0c9f54u) {
        float t = exponential_less_one(2.0f * a);
        result = 1.0f - 2.0f / (t + 2.0f);
    } else if (magnitude > 0x3e82c578u) {
        float t = exponential_less_one(2.0f * a);
        result = t / (t + 2.0f);
    } else if (magnitude >= 0x00800000u) {
        float t = exponential_less_one(-2.0f * a);
        result = -t / (t + 2.0f);
    } else {
        result = a;
    }
    return __float_as_uint(x) >> 31 ? -result : result;
}

// Squeezes into ± cap.
__device__ inline float capped(float x, float cap) { return cap * hyperbolic_tangent(x / cap); }

// e^x, for what the error function asks: x from -40 to 1.
__device__ inline float exponential_of_tail(float x) {
    u32 magnitude = __float_as_uint(x) & 0x7fffffff;
    int negative = __float_as_uint(x) >> 31;
    int k = 0;
    float high = x, low = 0.0f;
    if (magnitude > 0x3eb17218u) {
        k = magnitude > 0x3f851592u ? (int)(1.4426950216e+00f * x + (negative ? -0.5f : 0.5f)) : 1 - negative - negative;
        high = x - (float)k * 6.9314575195e-01f;
        low = (float)k * 1.4286067653e-06f;
        x = high - low;
    } else if (magnitude <= 0x39000000u) {
        return 1.0f + x;
    }
    float square = x * x;
    float c = x - square * (1.6666625440e-1f + square * -2.7667332906e-3f);
    float y = 1.0f + (x * c / (2.0f - c) - low + high);
    return k == 0 ? y : y * power_of_two(k);
}

__device__ inline float error_function(float x) {
    const float NEAR[5] = {1.2837916613e-01f, -3.2504209876e-01f, -2.8481749818e-02f, -5.7702702470e-03f, -2.3763017452e-05f};
    const float NEAR_BELOW[6] = {1.0f,             3.9791721106e-01f, 6.5022252500e-02f,
                                 5.0813062117e-03f, 1.3249473704e-04f, -3.9602282413e-06f};
    const float ONE[7] = {-2.3621185683e-03f, 4.1485610604e-01f, -3.7220788002e-01f, 3.1834661961e-01f,
                          -1.1089469492e-01f, 3.5478305072e-02f, -2.1663755178e-03f};
    const float ONE_BELOW[7] = {1.0f,             1.0642088205e-01f, 5.4039794207e-01f, 7.1828655899e-02f,
                                1.2617121637e-01f, 1.3637083583e-02f, 1.1984500103e-02f};
    const float FAR[8] = {-9.8649440333e-03f, -6.9385856390e-01f, -1.0558626175e+01f, -6.2375331879e+01f,
                          -1.6239666748e+02f, -1.8460508728e+02f, -8.1287437439e+01f, -9.8143291473e+00f};
    const float FAR_BELOW[9] = {1.0f,             1.9651271820e+01f, 1.3765776062e+02f, 4.3456588745e+02f, 6.4538726807e+02f,
                                4.2900814819e+02f, 1.0863500214e+02f, 6.5702495575e+00f, -6.0424413532e-02f};
    const float END[7] = {-9.8649431020e-03f, -7.9928326607e-01f, -1.7757955551e+01f, -1.6063638306e+02f,
                          -6.3756646729e+02f, -1.0250950928e+03f, -4.8351919556e+02f};
    const float END_BELOW[8] = {1.0f,             3.0338060379e+01f, 3.2579251099e+02f, 1.5367296143e+03f,
                                3.1998581543e+03f, 2.5530502930e+03f, 4.7452853394e+02f, -2.2440952301e+01f};
    u32 magnitude = __float_as_uint(x) & 0x7fffffff;
    bool negative = __float_as_uint(x) >> 31;
    if (magnitude >= 0x7f800000u) return 1.0f - 2.0f * (negative ? 1.0f : 0.0f) + 1.0f / x;
    if (magnitude < 0x3f580000u) {
        if (magnitude < 0x31800000u) return 0.125f * (8.0f * x + 1.0270333290e+00f * x);
        float z = x * x;
        return x + x * (polynomial(z, NEAR) / polynomial(z, NEAR_BELOW));
    }
    float a = __uint_as_float(magnitude), rest;
    if (magnitude >= 0x40c00000u) {
        rest = __uint_as_float(0x03800000u);
    } else if (magnitude < 0x3fa00000u) {
        float s = a - 1.0f;
        rest = 1.0f - 8.4506291151e-01f - polynomial(s, ONE) / polynomial(s, ONE_BELOW);
    } else {
        float s = 1.0f / (a * a);
        float quotient = magnitude < 0x4036db6du ? polynomial(s, FAR) / polynomial(s, FAR_BELOW)
                                                 : polynomial(s, END) / polynomial(s, END_BELOW);
        float z = __uint_as_float(magnitude & 0xffffe000u);
        rest = exponential_of_tail(-z * z - 0.5625f) * exponential_of_tail((z - a) * (z + a) + quotient) / a;
    }
    float y = 1.0f - rest;
    return negative ? -y : y;
}
